import json
import sys
import uuid

from django.core.management.base import BaseCommand, CommandError
from django.core.management.color import no_style
from django.db import IntegrityError, connections, transaction
from django.utils.dateparse import parse_datetime

from ... import mapping


class Command(BaseCommand):
    help = (
        "Reads lines of `switchboard export` from standard input and stores the messages that are not here yet. It may be "
        "run again at any time."
    )

    def handle(self, **_):
        model = mapping.messages().model
        rooms, created, known, strangers = {}, 0, 0, []
        columns = {role: column for column, role in mapping.ROOM.items()}
        for number, text in enumerate(sys.stdin, 1):
            line = json.loads(text)
            if conversation := line.get("conversation"):
                seats = {seat["role"]: seat["user_id"] for seat in conversation.get("participants", [])}
                # Others were never here.
                if conversation["kind"] == mapping.KIND and seats.keys() >= columns.keys():
                    rooms[conversation["id"]] = {columns[role]: key(model, columns[role], seats[role]) for role in columns}
            elif message := line.get("message"):
                people = rooms.get(message["conversation_id"])
                if people is None:
                    continue
                try:
                    if self.store(model, people, message):
                        created += 1
                    else:
                        known += 1
                except IntegrityError:
                    # Somebody who was deleted here meanwhile.
                    strangers.append(number)
        # Postgres goes on behind the highest key that was given.
        connection = connections[mapping.messages().db]
        with connection.cursor() as cursor:
            for sql in connection.ops.sequence_reset_sql(no_style(), [model]):
                cursor.execute(sql)
        self.stdout.write(f"{created} new messages, {known} were here already")
        if strangers:
            lines = ", ".join(map(str, strangers[:20]))
            raise CommandError(f"{len(strangers)} messages are of people who are not here, as in the lines {lines}")

    def store(self, model, people, line):
        if line["id"] == str(uuid.uuid5(mapping.NAMESPACE, f"message:{line['number']}")):
            # It was written here and only came back.
            return False
        at = parse_datetime(line["created_at"])
        fields = people | {
            mapping.SENDER: key(model, mapping.SENDER, line["sender_id"]),
            mapping.CONTENT: line.get("content", ""),
        }
        with transaction.atomic():
            if model.objects.filter(**fields, **{mapping.CREATED_AT: at}).exists():
                return False
            # Clients know it by its number; while both sides wrote, ours may have been given to another one.
            pk = None if model.objects.filter(pk=line["number"]).exists() else line["number"]
            message = model(pk=pk, **fields)
            message.save(force_insert=True)
            # Of what is `auto_now_add`, save() knows better.
            model.objects.filter(pk=message.pk).update(**{mapping.CREATED_AT: at})
        return True


def key(model, column, user_id):
    """A user's primary key as the column has it."""
    field = model._meta.get_field(column.removesuffix("_id"))
    return field.target_field.to_python(user_id)
