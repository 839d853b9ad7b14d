import json

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from .models import Message


class PairConsumer(AsyncWebsocketConsumer):
    """Lets in the two whose ids are in the path."""

    kind = ""

    async def connect(self):
        self.user = self.scope["user"]
        self.customer_id = self.scope["url_route"]["kwargs"].get("customer_id")
        self.therapist_id = self.scope["url_route"]["kwargs"].get("therapist_id")
        if not self.customer_id or not self.therapist_id:
            await self.close(code=4000)
            return
        if not self.user.is_authenticated:
            await self.close(code=4001)
            return
        if self.user.id not in (int(self.customer_id), int(self.therapist_id)):
            await self.close(code=4003)
            return
        self.room_group_name = f"{self.kind}_{self.customer_id}_{self.therapist_id}"
        await self.channel_layer.group_add(self.room_group_name, self.channel_name)
        await self.accept()

    async def disconnect(self, close_code):
        if hasattr(self, "room_group_name"):
            await self.channel_layer.group_discard(self.room_group_name, self.channel_name)


class ChatConsumer(PairConsumer):
    kind = "chat"

    async def receive(self, text_data):
        content = json.loads(text_data).get("message", "").strip()
        if not content:
            return
        message = await self.save_message(content)
        await self.channel_layer.group_send(
            self.room_group_name,
            {
                "type": "chat_message",
                "message": message.content,
                "sender_id": str(self.user.id),
                "message_id": str(message.id),
                "timestamp": message.created_at.isoformat(),
            },
        )

    async def chat_message(self, event):
        await self.send(
            text_data=json.dumps(
                {
                    "type": "message",
                    "message": event["message"],
                    "sender_id": event["sender_id"],
                    "message_id": event["message_id"],
                    "timestamp": event["timestamp"],
                }
            )
        )

    @database_sync_to_async
    def save_message(self, content):
        return Message.objects.create(
            customer_id=self.customer_id, therapist_id=self.therapist_id, sender=self.user, content=content
        )


class LocationConsumer(PairConsumer):
    kind = "location"

    async def receive(self, text_data):
        if self.user.id != int(self.therapist_id):
            return
        data = json.loads(text_data)
        await self.channel_layer.group_send(
            self.room_group_name,
            {
                "type": "location_update",
                "latitude": data["latitude"],
                "longitude": data["longitude"],
                "therapist_id": str(self.therapist_id),
            },
        )

    async def location_update(self, event):
        await self.send(text_data=json.dumps({**event, "type": "location"}))
