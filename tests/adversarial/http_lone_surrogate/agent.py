"""An answer that no encoding can carry."""
import socket

server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", 8000))
server.listen()
connection, _ = server.accept()
connection.recv(65536)
body = b'{"output": "42 \ud800"}'
connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
server.accept()
