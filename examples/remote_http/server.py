"""An agent that runs on a machine of its own, and is asked over HTTP; the standard library alone.

Start it where it can be reached, with a token that only you and the runner know:

    AGENT_TOKEN=change-me python3 server.py 8000

Then, where the runner is, with the same token, so that it knows whom to send it to:

    export AGENT_TOKEN=change-me
    agenttrace run examples/remote_http

Both on one machine, and without a certificate, has to be allowed for a trial:

    export AGENTTRACE_REMOTE__ALLOW_ADDRESSES=127.0.0.1/32 AGENTTRACE_REMOTE__ALLOW_PLAIN_HTTP=true

In earnest put it behind something that speaks TLS, and write its https:// URL in submission.toml.
"""

import hmac
import json
import os
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_REQUEST_BYTES = 1_000_000


def answer(prompt):
    """Works out "What is 6 times 7?", and knows nothing else."""
    match = re.search(r"(\d+) (plus|minus|times) (\d+)", prompt)
    if not match:
        return "I do not know."
    left, right = int(match[1]), int(match[3])
    return str({"plus": left + right, "minus": left - right, "times": left * right}[match[2]])


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # the default of 5 resets connections when many questions come at once


class Agent(BaseHTTPRequestHandler):
    timeout = 60  # seconds for a request to arrive

    def do_POST(self):
        expected = f"Bearer {os.environ['AGENT_TOKEN']}".encode()
        given = self.headers.get("Authorization", "").encode()
        length = int(self.headers.get("Content-Length", "0"))
        if not hmac.compare_digest(given, expected):
            self.reply(401, {"error": "the token is not the one I was started with"})
        elif length > MAX_REQUEST_BYTES:
            self.reply(413, {"error": "too long"})
        else:
            request = json.loads(self.rfile.read(length))
            self.reply(200, {"output": answer(request["prompt"])})

    def reply(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    if not os.environ.get("AGENT_TOKEN"):
        sys.exit("set AGENT_TOKEN to the token that requests must show")
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    with Server(("127.0.0.1", port), Agent) as server:
        print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
