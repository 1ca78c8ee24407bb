"""Takes the question and says nothing."""
import socket

server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", 8000))
server.listen()
connection, _ = server.accept()
connection.recv(65536)
server.accept()
