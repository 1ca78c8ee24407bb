"""Headers that are too long, too many, or never end, on many connections at once."""
import threading

prompt()
first = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\n".encode()
for name, data in {
    "a long target": b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
    "a long query": b"GET /?" + b"a=b&" * 100_000 + b" HTTP/1.1\r\n\r\n",
    "a long method": b"G" * 1_000_000,
    "a long header": first + b"X: " + b"a" * 5_000_000 + b"\r\n\r\n",
    "a long name": first + b"X" * 1_000_000 + b": a\r\n\r\n",
    "many headers": first + b"X: a\r\n" * 500_000 + b"\r\n",
    "many of one byte": first + b"a:\r\n" * 10_000 + b"\r\n",
}.items():
    refused(name, (statuses(raw(data, 5)) or [-1])[0], 400, 414, 431)

def never_ends():
    with connect(5) as connection:
        try:
            connection.sendall(first)
            for _ in range(2000):
                connection.sendall(b"X: " + b"a" * 4000 + b"\r\n")
        except OSError:
            return
        refused("headers without an end", (statuses(connection.recv(65536)) or [-1])[0], 431)

threads = [threading.Thread(target=never_ends) for _ in range(40)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("honest", call("/")[0])
