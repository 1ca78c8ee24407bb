"""Fills the buffers of thousands of loopback connections: kernel memory that is in no process."""
import os
import socket

server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen(1000)
pairs, sent = [], 0
while True:
    try:
        here = socket.create_connection(server.getsockname(), timeout=5)
        there, _ = server.accept()
        here.setblocking(False)
        pairs.append((here, there))
        while True:
            sent += here.send(b"x" * (1 << 20))
    except BlockingIOError:
        continue
    except OSError:
        break
print(len(pairs), "connections,", sent >> 20, "MiB in flight")
