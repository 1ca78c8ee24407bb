"""JSON that is deep, doubled, endless or not JSON, to every API."""
prompt()
paths = (CHAT, "/v1/responses", "/v1/embeddings", "/v1/messages")
head = b'{"model": "agenttrace/scripted", "max_tokens": 5, "messages": '
for path in paths:
    for name, body in {
        "deep lists": head + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
        "deep objects": b'{"a":' * 500_000 + b"1" + b"}" * 500_000,
        "deep, but not too deep for a parser": head + b"[" * 500 + b"]" * 500 + b"}",
        "an open list": b"[" * 2_000_000,
        "a name twice": b'{"model": "agenttrace/scripted", "model": "local/m", "messages": []}',
        "NaN": b'{"model": "agenttrace/scripted", "temperature": NaN, "messages": []}',
        "infinity": b'{"model": "agenttrace/scripted", "temperature": 1e999, "messages": []}',
        "a number of a million digits": b'{"max_tokens": ' + b"9" * 1_000_000 + b"}",
        "half a character": b'{"model": "\\ud800", "messages": []}',
        "UTF-16": '{"model": "agenttrace/scripted"}'.encode("utf-16"),
        "not UTF-8": b'{"model": "\xff\xfe"}',
        "a byte order mark": b'\xef\xbb\xbf{"model": "agenttrace/scripted", "messages": []}',
        "no object": b"[1, 2]",
        "nothing": b"",
        "a million small objects": head + b"[" + b"{}," * 1_000_000 + b"{}]}",
    }.items():
        refused(f"{name} at {path}", call(path, body, Content_Type="application/json", method="POST")[0], 400)
print("honest", chat("hello")[0])
