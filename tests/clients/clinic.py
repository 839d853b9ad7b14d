"""A client class that sends, then listens, in the manner of clinic.md, with the `websockets` library."""

import asyncio
import json
import sys

import websockets

ADDRESS, PATIENT, PROFESSIONAL = sys.argv[1:]
CHAT = "550e8400-e29b-41d4-a716-446655440000"


class Chat:
    def __init__(self, token):
        self.url = f"ws://{ADDRESS}/ws/chat/{CHAT}/?token={token}"
        self.socket = None

    async def open(self):
        self.socket = await websockets.connect(self.url)
        return self

    async def say(self, content):
        await self.socket.send(json.dumps({"content": content}))

    async def listen(self, count):
        heard = []
        async for frame in self.socket:
            data = json.loads(frame)
            heard.append(data["message"]["content"] if "message" in data else data["error"])
            if len(heard) == count:
                return heard


async def main():
    patient, professional = await Chat(PATIENT).open(), await Chat(PROFESSIONAL).open()
    await patient.say("Hello!")
    await patient.say("")
    assert await patient.listen(2) in (["Hello!", "Message content cannot be empty"], ["Message content cannot be empty", "Hello!"])
    assert await professional.listen(1) == ["Hello!"]
    await patient.socket.close()
    await professional.socket.close()
    print("ok")


asyncio.run(main())
