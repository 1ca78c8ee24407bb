"""The agent's connections on the real engine: from its loopback to this host, and back."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping

import h11
import pytest

from runner.domain import (
    Attempt,
    EndingKind,
    GatewayUse,
    HttpInterface,
    Image,
    Limits,
    Prompt,
    StdioInterface,
)
from runner.evaluation.attempt import attempt
from runner.ports import Connection
from tests.integration.conftest import MIB, Lab
from tests.integration.outcomes import SMALL
from tests.integration.test_images_without_python import busybox, busybox_image

pytestmark = pytest.mark.docker
__all__ = ["busybox", "busybox_image"]  # fixtures

SMALL_AND_PATIENT = SMALL.model_copy(update={"time_seconds": 120})
Serve = Callable[[Connection], Awaitable[None]]

PREAMBLE = """
import os, socket, sys, threading, time
HOST, PORT = os.environ["URL"].removeprefix("http://").split(":")
def connect():
    return socket.create_connection((HOST, int(PORT)))
def read_all(s):
    data = bytearray()
    while part := s.recv(65536): data += part
    return bytes(data)
"""


class Access:
    """An honest gateway: `serve` is what the test wants, and all that it did is counted."""

    def __init__(self, serve: Serve, most: int = 256) -> None:
        self.max_connections = most
        self.excused_seconds = 0.0
        self.met = asyncio.Event()
        self.served = self.under_way = self.most_at_once = self.cancelled = 0
        self._serve = serve

    @property
    def environment(self) -> Mapping[str, str]:
        return {"URL": "{url}", "KEY": "secret"}

    async def serve(self, connection: Connection) -> None:
        self.served += 1
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await self._serve(connection)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1

    async def over(self) -> None:
        await self.met.wait()

    def use(self) -> GatewayUse:
        return GatewayUse(connections=self.served)


async def echo(connection: Connection) -> None:
    while data := await connection.read():
        await connection.write(data)


async def swallow(connection: Connection) -> None:
    while await connection.read():
        pass


async def asked(
    lab: Lab, access: Access, agent: str | Image, limits: Limits | None = None
) -> Attempt:
    image = lab.python(PREAMBLE + agent) if isinstance(agent, str) else agent
    before = asyncio.all_tasks()
    made = await attempt(
        *(Prompt(task_id="t", text="what?"), {"seed": 1}, image),
        *(limits or Limits(time_seconds=90), lab.sandbox, lab.transport, lab.new_directory()),
        access,
    )
    assert asyncio.all_tasks() == before, "a task was left"
    assert access.under_way == 0
    assert made.agent_confirmed_dead
    return made


def said(made: Attempt) -> str:
    assert made.reply.ending.kind is EndingKind.ANSWERED, (made.reply.ending, made.reply.stderr)
    return made.reply.output


# -- what an honest agent does ------------------------------------------------------------------


async def test_a_round_trip_and_what_the_agent_is_told(lab: Lab) -> None:
    source = """
import json
config = json.loads(sys.stdin.read())["config"]
s = connect(); s.sendall(b"hello"); s.shutdown(socket.SHUT_WR)
print(read_all(s).decode(), config["gateway_url"], os.environ["URL"], os.environ["KEY"], end="")
"""
    access = Access(echo)
    url = "http://127.0.0.1:4180"
    assert said(await asked(lab, access, source)) == f"hello {url} {url} secret"
    assert access.served == 1


async def test_two_hundred_connections_at_once(lab: Lab) -> None:
    source = """
rooms = [connect() for _ in range(200)]
for n, s in enumerate(rooms): s.sendall(b"%d;" % n)
for n, s in enumerate(rooms): assert s.recv(100) == b"%d;" % n, n
for n, s in enumerate(rooms): s.sendall(b"x" * 1000 + b"%d" % n); s.shutdown(socket.SHUT_WR)
assert all(read_all(s) == b"x" * 1000 + b"%d" % n for n, s in enumerate(rooms))
print("all", end="")
"""
    access = Access(echo)
    assert said(await asked(lab, access, source)) == "all"
    assert (access.served, access.most_at_once) == (200, 200)


async def test_fifty_megabytes_each_way_arrive_as_they_were(lab: Lab) -> None:
    source = """
import hashlib
def send():
    block = os.urandom(1000003)
    for n in range(50): sent.update(block[n:]); s.sendall(block[n:])
    s.shutdown(socket.SHUT_WR)
sent, back, s = hashlib.sha256(), hashlib.sha256(), connect()
sender = threading.Thread(target=send); sender.start()
while part := s.recv(65536): back.update(part)
sender.join()
print(sent.hexdigest(), back.hexdigest(), end="")
"""
    heard, length = hashlib.sha256(), 0

    async def listen_and_echo(connection: Connection) -> None:
        nonlocal length
        while data := await connection.read():
            heard.update(data)
            length += len(data)
            await connection.write(data)

    digest = heard.hexdigest
    sent, back = said(await asked(lab, Access(listen_and_echo), source, SMALL_AND_PATIENT)).split()
    assert sent == back == digest()
    assert length == 50 * 1_000_003 - sum(range(50))


async def test_chunks_of_a_stream_arrive_as_they_are_sent(lab: Lab) -> None:
    """The next one is sent only when the agent has told, on another connection, of the last."""
    source = """
stream, control = connect(), connect()
stream.sendall(b"stream"); control.sendall(b"control"); assert control.recv(2) == b"ok"
for n in range(20):
    assert stream.recv(100) == b"data: %d\\n\\n" % n
    control.sendall(b"%02d" % n)
print(read_all(stream).decode(), end="")
"""
    told: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(connection: Connection) -> None:
        if await connection.read() == b"stream":
            for n in range(20):
                await connection.write(b"data: %d\n\n" % n)
                assert await told.get() == b"%02d" % n
            await connection.write(b"data: [DONE]")
        else:
            await connection.write(b"ok")
            while data := await connection.read():
                await told.put(data)

    access = Access(serve)
    assert said(await asked(lab, access, source)) == "data: [DONE]"
    assert access.served == 2


async def test_the_agent_ends_its_side_and_reads_on(lab: Lab) -> None:
    source = """
s = connect(); s.sendall(b"question"); s.shutdown(socket.SHUT_WR)
print(read_all(s).decode(), end="")
"""

    async def serve(connection: Connection) -> None:
        question = bytearray()
        while data := await connection.read():
            question += data
        for part in (b"you ", b"asked ", bytes(question)):
            await connection.write(part)

    assert said(await asked(lab, Access(serve), source)) == "you asked question"


async def test_what_was_written_before_the_close_is_delivered_though_nobody_read(lab: Lab) -> None:
    """As when a server refuses a request before it has read it: no reset may eat the refusal."""
    source = """
def send():
    try:
        while True: s.sendall(b"x" * 65536)
    except OSError: pass
s = connect(); threading.Thread(target=send, daemon=True).start()
print(len(read_all(s)), flush=True); os._exit(0)
"""

    async def serve(connection: Connection) -> None:
        await connection.read()
        await connection.write(b"r" * 100_000)
        await connection.close()
        await connection.close()
        assert await connection.read() == b""
        with pytest.raises(ConnectionError):
            await connection.write(b"x")

    access = Access(serve)
    assert said(await asked(lab, access, source)) == "100000\n"


async def test_http_as_it_is_spoken(lab: Lab) -> None:
    source = """
import http.client
c = http.client.HTTPConnection(HOST, int(PORT))
for n in range(50):
    c.request("POST", "/x", body=b"n" * n, headers={"Authorization": os.environ["KEY"]})
    r = c.getresponse(); assert (r.status, r.read()) == (200, b"secret %d" % n)
print("fine", end="")
"""
    access = Access(speak_http)
    assert said(await asked(lab, access, source)) == "fine"
    assert access.served == 1


async def speak_http(connection: Connection) -> None:
    http = h11.Connection(h11.SERVER)
    while True:
        request, body = await next_event(http, connection), 0
        if not isinstance(request, h11.Request):
            return
        while isinstance(event := await next_event(http, connection), h11.Data):
            body += len(event.data)
        answer = dict(request.headers)[b"authorization"] + b" %d" % body
        head = h11.Response(status_code=200, headers=[("Content-Length", str(len(answer)))])
        for part in (head, h11.Data(data=answer), h11.EndOfMessage()):
            await connection.write(http.send(part) or b"")
        http.start_next_cycle()


async def next_event(http: h11.Connection, connection: Connection) -> object:
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(await connection.read())
    return event


@pytest.mark.parametrize(("port", "gateway"), [(4180, 4181), (8123, 4180)])
async def test_a_server_reaches_it_beside_its_own_port(lab: Lab, port: int, gateway: int) -> None:
    source = """
import http.server, json
class Agent(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        s = connect(); s.sendall(b"via " + PORT.encode()); s.shutdown(socket.SHUT_WR)
        body = json.dumps({"output": read_all(s).decode()}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body)))
        self.end_headers(); self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Agent).serve_forever()
"""
    interface = HttpInterface(command=("python3", "-I", "-c", PREAMBLE + source), port=port)
    made = await asked(lab, Access(echo), lab.image(interface))
    assert said(made) == f"via {gateway}"


async def test_an_image_without_python_reaches_it_as_well(lab: Lab, busybox_image: str) -> None:
    script = "u=${URL#http://}; printf 'from busybox' | nc ${u%:*} ${u#*:}"
    image = lab.image(StdioInterface(command=("sh", "-c", script)), busybox_image)
    assert said(await asked(lab, Access(echo), image)) == "from busybox"


# -- ends ---------------------------------------------------------------------------------------


async def test_the_agent_exits_with_connections_open(lab: Lab) -> None:
    source = """
rooms = [connect() for _ in range(50)]
for s in rooms: s.sendall(b"x"); assert s.recv(1) == b"x"
print("bye", flush=True); os._exit(0)
"""
    access = Access(echo)
    assert said(await asked(lab, access, source)) == "bye\n"
    assert access.served == 50


async def test_nothing_is_listened_to_without_a_gateway(lab: Lab) -> None:
    source = """
s = socket.socket(); s.bind(("127.0.0.1", 4180))
print(socket.socket().connect_ex(("127.0.0.1", 4180)), os.environ.get("URL"), end="")
"""
    made = await lab.run(lab.python("import os, socket\n" + source))
    assert said(made) == "111 None"


async def test_the_agent_has_nothing_of_the_listener(lab: Lab) -> None:
    source = """
s = connect(); s.sendall(b"x"); s.recv(1)
print(sorted(int(n) for n in os.listdir("/proc/self/fd")), s.fileno(), end="")
"""
    made = await asked(lab, Access(echo), source)
    assert said(made) == "[0, 1, 2, 3, 4, 5] 4"  # its four, the socket, and the directory


async def test_a_fault_of_the_gateways_ends_one_connection(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    source = """
a, b = connect(), connect()
a.sendall(b"break"); assert read_all(a) == b""
b.sendall(b"go on"); print(b.recv(100).decode(), end="")
"""

    async def serve(connection: Connection) -> None:
        data = await connection.read()
        if data == b"break":
            raise ZeroDivisionError
        await connection.write(data)

    with caplog.at_level(logging.ERROR, logger="runner.transport.relay"):
        assert said(await asked(lab, Access(serve), source)) == "go on"
    assert len(caplog.records) == 1


async def test_a_deadline_is_put_off_by_what_is_excused(lab: Lab) -> None:
    source = """
s = connect(); s.sendall(b"x"); print(s.recv(1).decode(), end="")
"""
    limits = Limits(time_seconds=1)

    async def serve(connection: Connection) -> None:
        """Waits for a provider in trouble, for twice as long as the agent has."""
        data, began = await connection.read(), asyncio.get_running_loop().time()
        while (now := asyncio.get_running_loop().time() - began) < 2 * limits.time_seconds:
            access.excused_seconds = now
            await asyncio.sleep(0.005)
        await connection.write(data)

    access = Access(serve)
    made = await asked(lab, access, source, limits)
    assert said(made) == "x"
    assert made.reply.provider_wait_seconds == access.excused_seconds > limits.time_seconds
    assert made.reply.wall_seconds < limits.time_seconds


async def test_a_deadline_comes_nevertheless(lab: Lab) -> None:
    access = Access(swallow)
    access.excused_seconds = 0.3
    made = await asked(lab, access, "s = connect(); s.recv(1)", Limits(time_seconds=0.5))
    assert made.reply.ending.kind is EndingKind.TIMED_OUT
    assert made.reply.provider_wait_seconds == 0.3
    assert 0.5 <= made.reply.wall_seconds < 60
    assert access.cancelled == 1


@pytest.mark.parametrize(
    ("then", "kind"),
    [("s.recv(1)", EndingKind.BUDGET_SPENT), ("print('I see', end='')", EndingKind.ANSWERED)],
)
async def test_an_attempt_over_budget_ends(lab: Lab, then: str, kind: EndingKind) -> None:
    async def refuse(connection: Connection) -> None:
        await connection.read()
        await connection.write(b"over budget")
        access.met.set()
        await connection.read()

    access = Access(refuse)
    made = await asked(lab, access, f"s = connect(); s.sendall(b'x'); s.recv(100)\n{then}")
    assert made.reply.ending.kind is kind
    if kind is EndingKind.BUDGET_SPENT:
        assert made.reply.ending.detail == "the gateway refused a call over budget"


# -- what a hostile one does --------------------------------------------------------------------


async def test_connections_beyond_the_maximum_wait_for_their_turn(lab: Lab) -> None:
    source = """
rooms = [connect() for _ in range(20)]
for s in rooms: s.sendall(b"x")
for s in rooms: assert s.recv(1) == b"x"; s.close()
print("all", end="")
"""
    access = Access(echo, most=3)
    assert said(await asked(lab, access, source)) == "all"
    assert access.served == 20
    assert access.most_at_once <= 3


async def test_a_limit_of_open_files_is_the_shims_as_well(lab: Lab) -> None:
    source = """
rooms = [connect() for _ in range(50)]
for s in rooms: s.sendall(b"x")
for s in rooms: assert s.recv(1) == b"x"; s.close()
print("all", end="")
"""
    limits = Limits(time_seconds=60, open_files=64)
    access = Access(echo)
    assert said(await asked(lab, access, source, limits)) == "all"
    assert access.most_at_once <= 32


async def test_a_flood_of_connections(lab: Lab) -> None:
    """2,000, each reset, ended, left open or never read, in no more memory than usual."""
    source = """
import resource, struct
for n in range(2000):
    s = connect()
    s.sendall(b"x" * 100)
    if n % 4 == 0:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); s.close()
    elif n % 4 == 1: s.shutdown(socket.SHUT_WR); read_all(s)
    elif n % 4 == 2: s.close()
    else: s.recv(1); s.close()
s = connect(); s.sendall(b"still"); print(s.recv(100).decode(), end="")
"""
    access = Access(echo, most=50)
    made = await asked(lab, access, source, SMALL_AND_PATIENT)
    assert said(made) == "still"
    assert access.served <= 2001
    assert access.most_at_once <= 50


async def test_a_flood_does_not_put_off_the_deadline(lab: Lab) -> None:
    source = """
def flood():
    while True:
        try:
            s = connect(); s.setblocking(False)
            for _ in range(20): s.send(b"x" * 65536)
        except OSError: pass
for _ in range(8): threading.Thread(target=flood).start()
"""
    access = Access(echo)
    made = await asked(lab, access, source, Limits(time_seconds=2))
    assert made.reply.ending.kind is EndingKind.TIMED_OUT
    assert access.served > 0


async def test_those_who_never_read_are_waited_for_by_nobody_else(lab: Lab) -> None:
    source = """
stuck = [connect() for _ in range(30)]
for s in stuck: s.sendall(b"much")
for s in stuck: s.recv(1)
s = connect(); s.sendall(b"one"); print(s.recv(100).decode(), flush=True); os._exit(0)
"""

    async def serve(connection: Connection) -> None:
        data = await connection.read()
        while data == b"much":
            await connection.write(b"x" * MIB)
        await connection.write(data)

    assert said(await asked(lab, Access(serve), source)) == "one\n"


async def test_one_byte_at_a_time(lab: Lab) -> None:
    source = """
s = connect(); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for _ in range(5000): s.send(b"x")
s.shutdown(socket.SHUT_WR); print(len(read_all(s)), end="")
"""
    assert said(await asked(lab, Access(echo), source)) == "5000"
