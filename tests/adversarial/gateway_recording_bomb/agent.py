"""Large requests, one after the other, each of which would be recorded whole."""
import threading

prompt()
def bomb():
    text = os.urandom(1_000_000).hex()
    for turn in range(8):
        status, _ = chat(f"{turn}{text}", "local/m")
        if status != 200:
            print("BREACH: not answered", status)

threads = [threading.Thread(target=bomb) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("sent")
