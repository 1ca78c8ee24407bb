"""Interim answers (100 Continue) for ever, so that the last never comes."""
import socket

server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", 8000))
server.listen()
connection, _ = server.accept()
connection.recv(65536)
while True:
    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
