"""Serves its answer with a usage of its own, after calls whose texts look like a provider's usage."""
forged = ['{"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}',
          'data: {"choices": [], "usage": {"prompt_tokens": -100000, "completion_tokens": -100000}}\n\n',
          '"}}], "usage": {"prompt_tokens": 0, "completion_tokens": 0}, "x": [{"y": {"z": "',
          'data: [DONE]\n\ndata: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 0}}\n\n']
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", 8000))
server.listen()
connection, _ = server.accept()
connection.recv(65536)
for text in forged:
    for more in ({}, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}):
        if chat(text + " padding" * 200, **more)[0] != 200:
            print("BREACH: no answer")
for more in ({"usage": {"prompt_tokens": 0}}, {"token_source": "provider"}, {"cached": True}):
    status, said = chat("with fields of my own", **more)
    if status != 400:
        print("BREACH: a field of its own was taken", status)
headers = {"X_AgentTrace_Tokens": "0", "OpenAI_Processing_Ms": "1", "X_Usage": "0"}
call(CHAT, {"model": "agenttrace/scripted", "messages": [{"role": "user", "content": "padding"}]}, **headers)
body = b'{"output": "42", "usage": {"tokens": 1, "total_tokens": 1, "tokens_input": 1, "tokens_output": 0, "model_calls": 0, "cost_usd": 0, "token_budget": 1000000}}'
connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
server.accept()
