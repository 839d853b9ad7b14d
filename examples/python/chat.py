"""Sends messages and follows the feed over gRPC.

    python chat.py say PATIENT PROFESSIONAL TEXT
    python chat.py watch [--cursor-file FILE] [--count N] [--kind clinic]
"""

import argparse
import os
import pathlib
import random
import sys
import time

sys.path.insert(0, os.environ.get("SWITCHBOARD_GENERATED", "generated"))

import grpc
from switchboard.chat.v1 import chat_pb2 as chat
from switchboard.chat.v1 import chat_pb2_grpc


def connect():
    address = os.environ.get("SWITCHBOARD_ADDRESS", "127.0.0.1:50051")
    # A feed that is still finds out that its connection is gone.
    options = [("grpc.keepalive_time_ms", 30_000), ("grpc.keepalive_timeout_ms", 10_000)]
    if "SWITCHBOARD_CA_FILE" in os.environ:
        authorities = pathlib.Path(os.environ["SWITCHBOARD_CA_FILE"]).read_bytes()
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(authorities), options)
    else:
        channel = grpc.insecure_channel(address, options)
    token = pathlib.Path(os.environ["SWITCHBOARD_TOKEN_FILE"]).read_text().strip()
    return chat_pb2_grpc.ChatServiceStub(channel), [("authorization", f"Bearer {token}")]


def say(service, metadata, patient, professional, text):
    opened = service.OpenConversation(
        chat.OpenConversationRequest(
            kind=chat.CONVERSATION_KIND_CLINIC,
            participants=[
                chat.Participant(user_id=patient, role="patient"),
                chat.Participant(user_id=professional, role="professional"),
            ],
        ),
        metadata=metadata,
        timeout=10,
    )
    sent = service.SendMessage(
        chat.SendMessageRequest(
            conversation_id=opened.conversation.id,
            user_id=patient,
            # Repeating it with the same id stores it once.
            send=chat.Send(content=text, client_message_id=f"example-{time.time_ns()}"),
        ),
        metadata=metadata,
        timeout=10,
    )
    print(f"sent {sent.message.seq} {sent.message.content}", flush=True)


def store(cursor_file, cursor):
    # Whole or not at all.
    made = cursor_file.with_suffix(".new")
    made.write_text(cursor)
    made.replace(cursor_file)


def watch(service, metadata, cursor_file, count, kinds):
    """Events are told at least once: what is done with one must bear being done twice."""
    pause = 0.1
    while True:
        request = chat.WatchRequest(
            cursor=cursor_file.read_text() if cursor_file.exists() else "",
            start=chat.WATCH_START_OLDEST,
            kinds=kinds,
        )
        try:
            for response in service.Watch(request, metadata=metadata):
                pause = 0.1
                event = response.WhichOneof("event")
                if event == "message":
                    message = response.message
                    print(f"message {message.conversation_id} {message.seq} {message.content}", flush=True)
                elif event != "heartbeat":
                    print(event, flush=True)
                # After the work is done, and not before.
                store(cursor_file, response.cursor)
                if event != "heartbeat" and count is not None:
                    count -= 1
                    if count == 0:
                        return
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
                raise
        # The instance is ending or away: another one goes on from the cursor.
        time.sleep(pause * random.uniform(0.5, 1))
        pause = min(pause * 2, 5)


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    saying = commands.add_parser("say")
    saying.add_argument("patient")
    saying.add_argument("professional")
    saying.add_argument("text")
    watching = commands.add_parser("watch")
    watching.add_argument("--cursor-file", type=pathlib.Path, default=pathlib.Path("cursor"))
    watching.add_argument("--count", type=int, help="ends after so many events")
    watching.add_argument("--kind", action="append", default=[])
    arguments = parser.parse_args()
    service, metadata = connect()
    if arguments.command == "say":
        say(service, metadata, arguments.patient, arguments.professional, arguments.text)
    else:
        kinds = [chat.ConversationKind.Value(f"CONVERSATION_KIND_{kind.upper()}") for kind in arguments.kind]
        watch(service, metadata, arguments.cursor_file, arguments.count, kinds)


if __name__ == "__main__":
    main()
