"""Asks on many connections for large answers, and reads none."""
import time

prompt()
body = json.dumps({"model": "local/m", "messages": [{"role": "user", "content": "all"}]}).encode()
held = [connect() for _ in range(60)]
for connection in held:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(post(CHAT, len(body)) + body)
time.sleep(60)
