"""Two hundred threads that call at the same moment, in streams and not, until they are refused."""
import threading

line = threading.Barrier(200)
prompt()
answers = []

def race(number):
    head = post(CHAT, len(body := json.dumps({
        "model": "agenttrace/scripted", "messages": [{"role": "user", "content": "go " * 20}],
        "max_tokens": 50, "stream": number % 2 == 0}).encode()), "Connection: close")
    with connect(60) as connection:
        connection.sendall(head + body[:-1])
        line.wait()
        connection.sendall(body[-1:])
        said = b""
        try:
            while part := connection.recv(65536):
                said += part
        except OSError:
            pass
        answers.append(said)

threading.stack_size(262144)
threads = [threading.Thread(target=race, args=(number,)) for number in range(200)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sum(statuses(said) == [200] for said in answers), "answered")
print(sum(statuses(said) == [429] for said in answers), "refused")
