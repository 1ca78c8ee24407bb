"""Claims of tokens, cost and scores: some absurd, some not even text."""
import socket

server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", 8000))
server.listen()
connection, _ = server.accept()
connection.recv(65536)
body = b'{"output": "42", "score": 100, "usage": {"tokens": 5, "cost_usd": NaN, "inf": Infinity, "big": 1e300, "\ud800": 1, "x": "y", "deep": {"a": 1}}}'
connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
server.accept()
