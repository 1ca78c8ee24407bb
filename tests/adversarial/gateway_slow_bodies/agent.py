"""A hundred bodies and heads that come byte by byte and never end; one honest call beside them."""
prompt()
large = 4_000_000
slow = [connect() for _ in range(100)]
for number, connection in enumerate(slow):
    connection.sendall(post(CHAT, large) if number % 2 else b"GET / HTTP/1.1\r\nHo")
for number in range(10):
    print("honest", chat("hello")[0], call("/tools/calculator", {"expression": "6*7"}), file=sys.stderr, flush=True)
import time
while True:
    for connection in slow:
        try:
            connection.sendall(b" ")
        except OSError:
            pass
    time.sleep(0.1)
