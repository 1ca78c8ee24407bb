"""Asks the gateway, as if it were a proxy, for the host, the cloud's metadata, and everything else."""
port = prompt().strip()
targets = ["http://169.254.169.254/latest/meta-data/", f"http://127.0.0.1:{port}/v1/models",
           f"http://localhost:{port}/", "http://host.docker.internal/", "https://api.openai.com/v1/models",
           f"http://127.0.0.1:{PORT}/v1/models", "file:///etc/passwd", f"//127.0.0.1:{port}/v1/models"]
own = f"Host: 127.0.0.1:{PORT}"
bearer = f"Authorization: Bearer {KEY}"
def ask(target, _):
    for method in ("GET", "POST"):
        said = raw(f"{method} {target} HTTP/1.1\r\n{own}\r\n{bearer}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode())
        refused(f"{method} {target}", *statuses(said), 400, 404)

each(dict.fromkeys(targets), ask)
for target in (f"127.0.0.1:{port}", "169.254.169.254:80", "api.openai.com:443", f"localhost:{PORT}"):
    said = raw(f"CONNECT {target} HTTP/1.1\r\n{own}\r\n{bearer}\r\n\r\nGET / HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    refused(f"CONNECT {target}", *statuses(said), 405)
for host in ("169.254.169.254", f"127.0.0.1:{port}", "localhost", "127.0.0.1", f"evil.example:{PORT}",
             "api.openai.com", f"127.0.0.1:{PORT}.evil.example", f"127.0.0.1:{PORT}@evil.example", ""):
    said = raw(f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\nConnection: close\r\n\r\n".encode())
    refused(f"Host {host}", *statuses(said), 421)
said = raw(f"GET /v1/models HTTP/1.1\r\n{own}\r\nHost: evil.example\r\n{bearer}\r\nConnection: close\r\n\r\n".encode())
refused("two Hosts", *statuses(said), 400, 421)
said = raw(f"GET /v1/models HTTP/1.0\r\n{bearer}\r\n\r\n".encode())
refused("no Host", *statuses(said), 400, 421)
for model in (f"http://127.0.0.1:{port}/m", f"local@127.0.0.1:{port}/m", "../m", "openai/gpt-4o", "localhost/m"):
    refused(f"model {model}", chat("hello", model)[0], 404)
status, _ = call("/v1/models", X_Forwarded_Host="evil.example", Forwarded="host=evil.example", X_Original_URL="/x", X_HTTP_Method_Override="CONNECT")
print("forwarding headers change nothing", status)
for place in (port, "80", "2375", "5432"):
    try:
        socket.create_connection(("127.0.0.1", int(place)), 1).close()
        print("BREACH: the host's port", place)
    except OSError:
        print("refused: a connection to", place)
