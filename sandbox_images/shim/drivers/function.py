"""Calls one Python function of the agent: runs as the agent, under the image's own interpreter.

usage: function.py MODULE FUNCTION; {"prompt", "config"} as JSON on stdin, the answer as UTF-8 on
descriptor 3. What the function prints goes to stdout and is only a log.
"""

import importlib
import json
import os
import sys

ANSWER = 3


def main(module_name, function_name):
    request = json.load(sys.stdin)
    os.set_inheritable(ANSWER, False)
    sys.path.insert(0, os.getcwd())
    function = getattr(importlib.import_module(module_name), function_name)
    answer = function(request["prompt"], request["config"])
    if hasattr(answer, "__await__"):
        answer = complete(answer)
    if not isinstance(answer, str):
        raise SystemExit(f"{function_name} returned {type(answer).__name__}, not str")
    send(answer.encode("utf-8", "surrogatepass"))


def complete(awaitable):
    import asyncio

    async def wait():
        return await awaitable

    return asyncio.run(wait())


def send(data):
    view = memoryview(data)
    while view:
        view = view[os.write(ANSWER, view) :]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads and exit handlers of the agent do not hold the answer up
