"""Requests that two parsers may read differently, each with another one hidden behind or inside it."""
prompt()
hidden = b'{"operation": "set", "key": "k", "value": 1}'
inner = post("/tools/key_value", len(hidden)) + hidden
head = f"POST /budget HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\n".encode()
n = len(inner)
chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (n, inner)
cases = {
    "CL and TE": head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
    "TE and CL": head + b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n" % n + inner,
    "two lengths": head + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % n + inner,
    "two equal lengths": head + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + inner,
    "a list of lengths": head + b"Content-Length: 0, 0\r\n\r\n" + inner,
    "a signed length": head + b"Content-Length: +0\r\n\r\n" + inner,
    "a negative length": head + b"Content-Length: -1\r\n\r\n" + inner,
    "a length in hex": head + b"Content-Length: 0x0\r\n\r\n" + inner,
    "a length with an underscore": head + b"Content-Length: 0_0\r\n\r\n" + inner,
    "a length in Arabic digits": head + "Content-Length: ٠\r\n\r\n".encode() + inner,
    "a huge length": head + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n" + inner,
    "a space before the colon": head + b"Content-Length : 0\r\n\r\n" + inner,
    "an empty length": head + b"Content-Length: \r\n\r\n" + inner,
    "two encodings": head + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunk,
    "an unknown encoding": head + b"Transfer-Encoding: xchunked\r\n\r\n" + chunk,
    "chunked twice": head + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + chunk,
    "gzip, chunked": head + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunk,
    "a tab in the encoding": head + b"Transfer-Encoding:\tchunked\x0b\r\n\r\n" + chunk,
    "a folded header": head + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n" + inner,
    "a folded encoding": head + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + chunk,
    "bare line feeds": head.replace(b"\r\n", b"\n") + b"Content-Length: 0\n\n" + inner,
    "one bare line feed": head + b"X: a\nTransfer-Encoding: chunked\r\n\r\n" + chunk,
    "a bare carriage return": head + b"X: a\rTransfer-Encoding: chunked\r\n\r\n" + chunk,
    "a NUL in a header": head + b"X: a\0b\r\nContent-Length: 0\r\n\r\n" + inner,
    "a NUL in a name": head + b"X\0Y: a\r\nContent-Length: 0\r\n\r\n" + inner,
    "a header without a name": head + b": a\r\nContent-Length: 0\r\n\r\n" + inner,
    "a header without a colon": head + b"Transfer-Encoding\r\n\r\n" + inner,
    "chunked in HTTP/1.0": head.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n" + chunk,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": head.replace(b"1.1", b"1.2") + b"\r\n" + inner,
    "HTTP/0.9": b"GET /budget\r\n\r\n" + inner,
    "a line feed in the target": b"POST /budget\n HTTP/1.1\r\nHost: a\r\n\r\n" + inner,
    "a space before the method": b" " + head + b"\r\n" + inner,
    "a tab for a space": head.replace(b" ", b"\t") + b"\r\n" + inner,
}
chunked = post("/tools/key_value", 0).replace(b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n")
bodies = {
    "a chunk size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a signed chunk size": b"+5\r\nhello\r\n0\r\n\r\n",
    "a negative chunk size": b"-5\r\nhello\r\n0\r\n\r\n",
    "a huge chunk size": b"f" * 16 + b"\r\nhello",
    "a chunk size of many digits": b"0" * 100_000 + b"5\r\nhello\r\n0\r\n\r\n",
    "a chunk longer than it says": b"2\r\nhello\r\n0\r\n\r\n",
    "a chunk that ends in a line feed": b"5\nhello\n0\n\n",
    "a huge chunk extension": b"5;" + b"x" * 1_000_000 + b"\r\nhello\r\n0\r\n\r\n",
    "many chunk extensions": b"5" + b";a=b" * 200_000 + b"\r\nhello\r\n0\r\n\r\n",
    "huge trailers": b"0\r\n" + b"X: y\r\n" * 200_000 + b"\r\n",
    "a trailer that is a request": b"0\r\n" + inner[:-1] + b"\r\n\r\n",
}
cases |= {name: chunked + body + inner for name, body in bodies.items()}
def ask(name, data):
    got = statuses(raw(data, 3))
    # One refusal, and the connection ends: what came behind it is not read as a request.
    status = got[0] if len(got) == 1 else 0 if got else -1
    waits = [-1] if name == "a huge chunk size" else []  # for the rest of it
    refused(name, status, 400, 401, 405, 413, 422, 431, 501, 505, *waits)

each(cases, ask)
tiny = chunked.replace(b"Host", b"Connection: close\r\nHost", 1) + b"1\r\n{\r\n" * 20_000
refused("a flood of tiny chunks", (statuses(raw(tiny + b"0\r\n\r\n", 20)) or [-1])[0], 400)
print(call("/tools/key_value", {"operation": "get", "key": "k"}))
