"""Fifty threads that call an overloaded provider, since waiting for that is excused."""
import threading

prompt()
def wait():
    while True:
        try:
            chat("again", "local/m")
        except OSError:
            pass

for _ in range(49):
    threading.Thread(target=wait, daemon=True).start()
wait()
