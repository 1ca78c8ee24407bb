"""Begins two hundred streams and leaves each as soon as it has begun."""
import threading

prompt()
body = json.dumps({"model": "local/m", "stream": True, "max_tokens": 10,
                   "messages": [{"role": "user", "content": "all of this is charged " * 20}]}).encode()

def leave():
    for _ in range(10):
        try:
            with connect() as connection:
                connection.sendall(post(CHAT, len(body)) + body)
                connection.recv(100)
        except OSError:
            pass

threads = [threading.Thread(target=leave) for _ in range(20)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("left", chat("once more", "agenttrace/scripted")[0])
