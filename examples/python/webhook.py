"""Checks webhooks with the standard library, and receives them: WEBHOOK_SECRET=whsec_... python webhook.py PORT"""

import base64
import hashlib
import hmac
import http.server
import json
import os
import sys
import time

TOLERANCE_S = 300


def verify(headers, body, secrets, now=None):
    """The event, or ValueError. `headers` is a mapping that ignores case, `body` the bytes as they came, `secrets` the one
    in use and, while it is rotated, the other."""
    webhook_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs((now or time.time()) - int(timestamp)) > TOLERANCE_S:
        raise ValueError("too old, or from the future")
    signed = webhook_id.encode() + b"." + timestamp.encode() + b"." + body
    for secret in secrets:
        key = base64.b64decode(secret.removeprefix("whsec_"))
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
        for signature in headers.get("webhook-signature", "").split(" "):
            version, _, value = signature.partition(",")
            if version == "v1" and hmac.compare_digest(value.encode(), expected):
                return json.loads(body)
    raise ValueError("not signed by a secret of ours")


class Receiver(http.server.BaseHTTPRequestHandler):
    secrets = []
    # With a database, a table with this as its key.
    seen = set()

    def do_POST(self):
        body = self.rfile.read(min(int(self.headers.get("content-length", 0)), 1 << 20))
        try:
            event = verify(self.headers, body, self.secrets)
        except ValueError as error:
            print(f"refused: {error}", flush=True)
            self.send_response(401)
        else:
            # A webhook may come twice.
            if event["id"] not in self.seen:
                self.seen.add(event["id"])
                print(f"{event['type']} {json.dumps(event['data'], sort_keys=True)}", flush=True)
            self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    Receiver.secrets = os.environ["WEBHOOK_SECRET"].split()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
    print(f"listening on {server.server_address[1]}", flush=True)
    server.serve_forever()
