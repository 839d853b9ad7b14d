"""What is different from site to site: which model holds the messages, and who sits in a conversation.

This is for a model as the Channels tutorials have it: each message with the two people of its room and who wrote it.
Change what is different at your site; the two commands need nothing else."""

import uuid

from django.apps import apps

# Ids are made of this and of your own keys. Any will do, but it must never change: by it, what was exported is known again.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://chat.example.org")

# As in switchboard/chat/v1/chat.proto.
KIND = "CONVERSATION_KIND_THERAPY"
# The columns that make up a room, and the role that each of them is.
ROOM = {"customer_id": "customer", "therapist_id": "therapist"}
SENDER = "sender_id"
CONTENT = "content"
CREATED_AT = "created_at"


def messages():
    """All messages that move."""
    return apps.get_model("chat", "Message").objects.all()


def is_read(message):
    """Whether the other side has read it. Many sites do not know; then nothing is unread after the move."""
    return True


def user_line(user, roles):
    """A user of Django's: see `User` in switchboard/identity/v1/identity.proto."""
    line = {"id": str(user.pk), "username": user.get_username(), "full_name": user.get_full_name()}
    line |= {"email": user.email, "roles": sorted(roles), "inactive": not user.is_active}
    return {name: value for name, value in line.items() if value}
