"""Listens, but never accepts: connections pile up in the kernel."""
import socket
import time

server = socket.socket()
server.bind(("127.0.0.1", 8000))
server.listen(0)
mine = []
for _ in range(8):
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(("127.0.0.1", 8000))
    mine.append(client)
time.sleep(3600)
