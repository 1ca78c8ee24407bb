"""More tool calls than are allowed, by HTTP and MCP at once, with arguments made to hurt."""
import threading

prompt()
deep = b'{"expression": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
for name, body, allowed in (
    ("deep arguments", deep, (400, 422)),
    ("eight megabytes of arguments", b'{"expression": "' + b"1" * 8_000_000 + b'"}', (413,)),
    ("a megabyte of arguments", b'{"expression": "' + b"1" * 1_000_000 + b'"}', (422,)),
    ("more than a request may be", b'{"expression": "' + b"1" * 9_000_000 + b'"}', (413,)),
    ("a long number", b'{"expression": ' + b"1" * 100_000 + b"}", (400, 422)),
    ("NaN", b'{"expression": NaN}', (400, 422)),
    ("half a character", b'{"expression": "\\ud800"}', (200, 422, 400)),
    ("no object", b"[1]", (422,)),
    ("many names", json.dumps({f"k{n}": n for n in range(20_000)}).encode(), (422,)),
    ("another type", b'{"expression": {"a": [{}]}}', (422,)),
):
    refused(name, call("/tools/calculator", body)[0], *allowed)
for name in ("x" * 5_000, "%00", "..%2f..%2fetc%2fpasswd", "calculator%0aevil", "__class__", "%f0%9f%92%a9", "%ff%fe"):
    refused(f"tool {name[:20]}", call(f"/tools/{name}", {})[0], 404)
for power in ("9**9**9", "9**9**99", "(" * 300 + "1" + ")" * 300, "factorial(99999)", "1e308*1e308", "2**99999"):
    status, said = call("/tools/calculator", {"expression": power})
    if status not in (200, 422) or len(said) > 200_000:
        print("BREACH:", power[:20], status, len(said))

def flood(number):
    for turn in range(40):
        if number % 2:
            call("/tools/key_value", {"operation": "set", "key": f"k{number}-{turn}", "value": "x" * 2_000})
        else:
            rpc = {"jsonrpc": "2.0", "id": turn, "method": "tools/call", "params": {"name": "calculator", "arguments": {"expression": "1+" * 400 + "1"}}}
            call("/mcp", rpc, MCP_Protocol_Version="2025-06-18", Accept="application/json, text/event-stream")

threads = [threading.Thread(target=flood, args=(number,)) for number in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
status, said = call("/tools/calculator", {"expression": "6*7"})
refused("one more", status, 429)
print(code(said), "honest", chat("hello")[0])
