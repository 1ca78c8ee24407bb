"""Keys of nobody, of an earlier attempt of the same run, and none, beside its own and alone."""
import secrets

old = prompt().strip()
body = {"model": "agenttrace/scripted", "messages": [{"role": "user", "content": "for another"}]}
invented = "at-" + secrets.token_hex(16)
for name, key in {"an invented key": invented, "an earlier attempt's": old, "none": None, "empty": " ", "its beginning": KEY[:-1],
                  "more than it": KEY + "0", "its bytes in capitals": KEY.upper(), "a wildcard": "*"}.items():
    for path, form in ((CHAT, body), ("/v1/messages", body | {"max_tokens": 5}), ("/v1/embeddings", {"model": "x", "input": "y"})):
        refused(f"{name} at {path}", call(path, form, key)[0], 401)
    refused(f"{name} at /v1/models", call("/v1/models", None, key)[0], 401)
for key in (invented, old):
    for path, form in (("/tools", None), ("/tools/calculator", {"expression": "1"}), ("/budget", None), ("/mcp", {})):
        refused(f"another's key at {path}", call(path, form, key)[0], 401)
    refused("beside its own", call(CHAT, body, KEY, X_Api_Key=key)[0], 401)
    refused("its own beside it", call(CHAT, body, key, X_Api_Key=KEY)[0], 401)
    refused("as a query", call(f"/v1/models?key={KEY}&api_key={KEY}", None, None)[0], 401)
    refused("Basic", call("/v1/models", None, None, Authorization="Basic " + KEY)[0], 401)
    refused("Bearer, twice", call("/v1/models", None, None, Authorization=f"Bearer {key}, Bearer {KEY}")[0], 401)
    refused("a cookie", call("/v1/models", None, None, Cookie=f"key={KEY}")[0], 401)
