"""The stdio interface: a question as JSON on stdin, the answer on stdout, the rest on stderr."""

import json
import sys

from agent import answer

request = json.load(sys.stdin)
print("asked:", request["prompt"][:60], file=sys.stderr)
sys.stdout.write(answer(request["prompt"], request["config"]))
