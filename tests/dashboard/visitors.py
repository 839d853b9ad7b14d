"""People of all five protocols, and some whom nobody wants."""

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import time

import websockets

from stage import SECRET

CLINIC = "/ws/chat/550e8400-e29b-41d4-a716-446655440000/"
CONSULTATION = "/ws/chat/c0500000-0000-4000-8000-000000000000/"


def token(user_id, role, secret=SECRET):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    now = int(time.time())
    head = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(
        {"token_type": "access", "user_id": user_id, "roles": [role], "iat": now, "exp": now + 3600})
    signature = hmac.new(secret.encode(), head, hashlib.sha256).digest()
    return (head + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


class Visitors:
    def __init__(self, stage, session_key):
        self.edges = [stage.ports[one]["edge"] for one in ("edge-1", "edge-2")]
        self.session_key = session_key

    def url(self, edge, path, user_id=None, role=None, query=None):
        query = query if query is not None else f"token={token(user_id, role)}"
        return f"ws://127.0.0.1:{self.edges[edge]}{path}?{query}"

    async def stay(self, url, frames, pause_s, **more):
        """Comes in, says these in turn for ever, reads everything, and comes back whenever it is sent away."""
        turn = 0
        while True:
            try:
                async with websockets.connect(url, compression=None, **more) as connection:
                    reading = asyncio.create_task(self.read(connection))
                    try:
                        while not reading.done():
                            if frames:
                                await connection.send(json.dumps(frames[turn % len(frames)]))
                                turn += 1
                            await asyncio.sleep(pause_s)
                    finally:
                        reading.cancel()
            except (OSError, websockets.WebSocketException):
                pass
            await asyncio.sleep(1)

    async def read(self, connection):
        try:
            async for _ in connection:
                pass
        except websockets.WebSocketException:
            # Whoever speaks is told, too.
            pass

    async def knock(self, urls, pause_s):
        """Tries one door after the other, and is gone again."""
        turn = 0
        while True:
            try:
                async with websockets.connect(urls[turn % len(urls)], compression=None) as connection:
                    async with asyncio.timeout(0.3):
                        await connection.recv()
            except (OSError, TimeoutError, websockets.WebSocketException):
                pass
            turn += 1
            await asyncio.sleep(pause_s)

    async def crowd(self, url, count, pause_s):
        """More sockets of one user than there may be."""
        while True:
            opened = []
            for _ in range(count):
                try:
                    opened.append(await websockets.connect(url, compression=None))
                except (OSError, websockets.WebSocketException):
                    pass
            for connection in opened:
                await connection.close()
            await asyncio.sleep(pause_s)

    async def sloth(self, path, user_id, role, speaker, pause_s):
        """Does not read while much is said."""
        while True:
            try:
                with socket.socket() as sloth:
                    sloth.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    sloth.connect(("127.0.0.1", self.edges[0]))
                    sloth.sendall((
                        f"GET {path}?token={token(user_id, role)} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                        "Sec-WebSocket-Version: 13\r\n\r\n").encode())
                    async with websockets.connect(speaker, compression=None) as connection:
                        reading = asyncio.create_task(self.read(connection))
                        for _ in range(500):
                            await connection.send(json.dumps({"content": "x" * 30_000}))
                            await asyncio.sleep(0.01)
                        reading.cancel()
            except (OSError, websockets.WebSocketException):
                pass
            await asyncio.sleep(pause_s)

    async def call(self, path, pause_s, head=""):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.edges[0])
                writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{head}Connection: close\r\n\r\n".encode())
                await reader.read()
                writer.close()
            except OSError:
                pass
            await asyncio.sleep(pause_s)

    async def all(self, seconds):
        clinic, nothing = {"content": "how are you?"}, {"content": ""}
        mobile = [{"type": "chat_message", "content": "hello", "message_type": "text"},
                  {"type": "typing_indicator", "is_typing": True}]
        mentoring = [{"message": "how are you?"}]
        pat, dora = f"Authorization: Bearer {token('701', 'patient')}\r\n", token("702", "professional")
        cookie = {"Cookie": f"sessionid={self.session_key}"}
        talk = [{"type": "chat_message", "message": "well"}, {"type": "typing", "is_typing": True}]
        everybody = [
            self.stay(self.url(0, CLINIC, "701", "patient"), [clinic], 0.4),
            self.stay(self.url(1, CLINIC, "702", "professional"), [clinic, nothing], 0.9),
            self.stay(self.url(0, CONSULTATION, "801", "client"), talk, 0.12),
            self.stay(self.url(1, CONSULTATION, "802", "expert"), talk, 0.5),
            self.stay(self.url(0, "/ws/notifications/", "801", "client"), [], 1),
            self.stay(self.url(1, "/ws/notifications/", "802", "expert"), [], 1),
            self.stay(self.url(0, "/ws/presence/", "801", "client"), [], 1),
            self.stay(self.url(1, "/ws/presence/", "802", "expert"), [], 1),
            self.stay(self.url(0, "/ws/mobile/chat/123/", query="device_id=abc123xyz"), mobile, 1.3),
            self.stay(self.url(1, "/ws/mobile/chat/123/", "900", "staff"), mobile, 2),
            self.stay(f"ws://127.0.0.1:{self.edges[0]}/ws/chat/my-conversation/", mentoring, 1.1,
                      additional_headers=cookie, origin=f"http://127.0.0.1:{self.edges[0]}"),
            self.knock([
                self.url(0, "/ws/presence/", "702", "expert"),
                self.url(1, CLINIC, "801", "client"),
                self.url(0, CLINIC, query=f"token={token('701', 'patient', 'a secret that is not the one, of 32')}"),
                self.url(1, "/ws/mobile/chat/123/", query="device_id=nobody-s"),
                self.url(0, "/ws/notifications/", "802", "expert"),
                self.url(1, "/ws/chat/00000000-0000-4000-8000-000000000000/", "701", "patient"),
            ], 0.3),
            self.crowd(self.url(1, "/ws/presence/", "6", "teacher"), 30, 12),
            self.sloth(CLINIC, "701", "patient", self.url(1, CLINIC, "702", "professional"), 30),
            self.call("/api/v1/chat/chats/", 0.15, pat),
            self.call("/chat/chats/", 1, f"Authorization: Bearer {dora}\r\n"),
            self.call("/chat/chats/", 2),
            self.call("/healthz", 1),
            self.call("/nowhere", 3),
            self.call("/healthz", 5, "a header without a colon\r\n"),
        ]
        tasks = [asyncio.create_task(one) for one in everybody]
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        # Sometimes one does not hear it the first time.
        while tasks:
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=15)
