"""An agent behind HTTP, with nothing but the standard library: it looks values up in JSON.

The server listens on the loopback of a container that has no network; the shim connects to it.
"""

import json
import os
import re
from http.server import BaseHTTPRequestHandler, HTTPServer


def answer(prompt):
    match = re.search(r"JSON: (.+)\nWhich value is at (\S+)\?", prompt)
    if not match:
        return "I do not know."
    value = json.loads(match[1])
    for name, index in re.findall(r"(\w+)|\[(\d+)\]", match[2]):
        value = value[int(index)] if index else value[name]
    return value if isinstance(value, str) else json.dumps(value)


class Agent(BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"output": answer(request["prompt"])}).encode()
        self.send_response(200 if self.path == "/invoke" else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8000"))), Agent).serve_forever()
