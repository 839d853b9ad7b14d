"""A customer and a therapist with the `websockets` library, the token in the Authorization header (therapy.md)."""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

ADDRESS, CUSTOMER, THERAPIST = sys.argv[1:]


def dial(token, customer=123, therapist=456):
    headers = {"Authorization": f"Bearer {token}"}
    return connect(f"ws://{ADDRESS}/ws/chat/{customer}/{therapist}/", additional_headers=headers)


async def main():
    async with dial(CUSTOMER) as customer, dial(THERAPIST) as therapist:
        await therapist.send(json.dumps({"message": "How are you?"}))
        for socket in (customer, therapist):
            data = json.loads(await socket.recv())
            assert (data["type"], data["message"], data["sender_id"]) == ("message", "How are you?", "456"), data
    async with dial("no-token") as refused:
        try:
            await refused.recv()
            raise AssertionError("was let in")
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 4001, closed
    print("ok")


asyncio.run(main())
