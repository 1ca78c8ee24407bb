"""Five thousand connections from six processes, some silent, some half-spoken, all left open; twice."""
import errno
import select
import time

prompt()
def flood():
    opened = []
    for number in range(850):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", PORT))
        opened.append(one)
    for number, one in enumerate(opened):
        try:
            one.send([b"", b"GET / HTTP/1.1\r\n", post(CHAT, 100_000), b"\0"][number % 4])
        except OSError:
            pass
    time.sleep(1.5)
    os._exit(0)

for _ in range(2):
    children = []
    for _ in range(6):
        child = os.fork()
        if not child:
            flood()
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
print("honest", chat("after the flood")[0])
