"""Paths that would lead somewhere else if anybody cleaned them up."""
prompt()
body = json.dumps({"model": "agenttrace/scripted", "messages": [{"role": "user", "content": "x"}]}).encode()
paths = ("/v1/../v1/chat/completions", "//v1/chat/completions", "/v1//chat/completions", "/v1/chat/completions/",
             "/v1/chat/completions//", "/./v1/chat/completions", "/v1/%2e%2e/v1/chat/completions", "/%2e%2e/etc/passwd",
             "/../../../etc/passwd", "/v1/chat/completions%00", "/v1/chat/completions%00/../budget", "/v1/chat/completions;x=y",
             "/v1/chat%2Fcompletions%2f", "/V1/CHAT/COMPLETIONS", "/v1/chat/completions%20", "/v1/chat/completions%0d%0aX:%20y",
             "/v1\\chat\\completions", "/v1/files", "/v1/threads", "/v1/images/generations", "/v1/audio/speech", "/v1/batches",
             "/v1/fine_tuning/jobs", "/v1/responses/resp_1", "/v1/messages/batches", "/v1/messages/count_tokens", "/v1/complete",
             "/v1/models/agenttrace/scripted", "/v1/completions", "/.env", "/proc/self/environ", "/%ff%fe", "/\u2025/v1".encode().decode("latin-1"),
             "/tools/", "/tools/..", "/tools/../budget", "/tools/calculator/..", "/tools/%2e%2e%2fbudget", "/tools/calculator%2f..", "/mcp/", "/mcp/../budget",
             "/tools/calculator/", "/budget/", "/budget%00", "/%62udget/.", "*", "?", "#")
def ask(path, _):
    data = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode("latin-1")
    refused(path, (statuses(raw(data + body)) or [-1])[0], 400, 404, 405)

each(dict.fromkeys(paths), ask)
for byte in (0, 9, 11, 12, 127):
    data = b"POST /v1/chat/compl" + bytes([byte]) + b"etions HTTP/1.1\r\nHost: x\r\n\r\n"
    refused(f"byte {byte}", (statuses(raw(data)) or [-1])[0], 400)
for method in ("GET", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "X"):
    refused(f"{method} of a model", call(CHAT, b"" if method == "PUT" else None, method=method)[0], 405)
print("percent signs are read once", call("/v1/%6dodels")[0], call("/%2576")[0])
