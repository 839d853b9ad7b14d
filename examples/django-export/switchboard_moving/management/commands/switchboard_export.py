import json
import sys
import uuid
from collections import defaultdict

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db.models import Max, Min
from django.utils.dateparse import parse_datetime

from ... import mapping


class Command(BaseCommand):
    help = "Writes users, conversations and messages as lines for `switchboard import`, to standard output."

    def add_arguments(self, parser):
        parser.add_argument("--since", metavar="TIME", help="only messages of this time or later: 2024-05-01T10:00:00Z")

    def handle(self, since, **_):
        moving = mapping.messages()
        if since:
            at = parse_datetime(since)
            if at is None:
                raise CommandError("--since: a time is wanted, as 2024-05-01T10:00:00Z")
            moving = moving.filter(**{f"{mapping.CREATED_AT}__gte": at})

        roles = defaultdict(set)
        for column, role in mapping.ROOM.items():
            for user_id in mapping.messages().order_by().values_list(column, flat=True).distinct():
                roles[user_id].add(role)
        for user in get_user_model().objects.order_by("pk").iterator(2000):
            write("user", mapping.user_line(user, roles[user.pk] | ({"staff"} if user.is_staff else set())))

        times = {"first": Min(mapping.CREATED_AT), "last": Max(mapping.CREATED_AT)}
        rooms = moving.order_by().values(*mapping.ROOM).distinct().order_by(*mapping.ROOM)
        for people in rooms.iterator(2000):
            of_room = mapping.messages().filter(**people)
            opened = of_room.aggregate(**times)
            conversation_id = identifier("conversation", *people.values())
            write(
                "conversation",
                {
                    "id": conversation_id,
                    "kind": mapping.KIND,
                    "participants": [
                        {"user_id": str(people[column]), "role": role} for column, role in mapping.ROOM.items()
                    ],
                    "created_at": opened["first"].isoformat(),
                    "updated_at": opened["last"].isoformat(),
                },
            )
            # In their order: it becomes the order in Switchboard.
            for message in moving.filter(**people).order_by(mapping.CREATED_AT, "pk").iterator(2000):
                sender_id = getattr(message, mapping.SENDER)
                seat = next((role for column, role in mapping.ROOM.items() if people[column] == sender_id), "staff")
                line = {
                    "id": identifier("message", message.pk),
                    "number": message.pk,
                    "conversation_id": conversation_id,
                    "sender_id": str(sender_id),
                    "sender_role": seat,
                    "content": getattr(message, mapping.CONTENT).replace("\0", ""),
                    "created_at": getattr(message, mapping.CREATED_AT).isoformat(),
                    "status": "MESSAGE_STATUS_READ" if mapping.is_read(message) else "MESSAGE_STATUS_SENT",
                }
                write("message", line)


def identifier(*key):
    return str(uuid.uuid5(mapping.NAMESPACE, ":".join(map(str, key))))


def write(kind, line):
    sys.stdout.write(json.dumps({kind: line}, ensure_ascii=False) + "\n")
