"""PID 1 of every sandbox: starts the agent under another uid, watches it, kills it.

It is the only trusted process in a container full of hostile ones. It runs as uid 0 with the
capabilities SETUID, SETGID and KILL alone, under its own interpreter from a read-only volume, and
imports nothing but the standard library. It speaks frames (docs/shim-protocol.md) to the host over
its own stdin and stdout; the agent gets pipes and can reach neither.
"""

# Their public faces, json and signal, import re and enum, which is half of our start-up time.
import _json
import _signal as signal
import errno
import fcntl
import os
import select
import stat
import struct
import sys
import time

PROTOCOL = 2
HEADER = struct.Struct("!IBI")  # payload length, kind, stream
MAX_PAYLOAD = 65_536  # of what we send
MAX_REQUEST = 8 * 1024 * 1024  # of what the host sends: a prompt, escaped as JSON, and the config

# shim to host
HELLO, STARTED, OUTPUT, EXITED, STOPPED, CGROUP = 1, 2, 3, 4, 5, 6
FILE, FILE_DATA, FILE_END, COLLECTED, FAILED, DIALED, ACCEPTED = 7, 8, 9, 10, 11, 12, 13
# both ways
DATA, CLOSE, END, CREDIT = 20, 21, 22, 23
# host to shim
START, STOP, COLLECT, READ_CGROUP, DIAL = 32, 33, 34, 35, 36

STDIN, STDOUT, STDERR, ANSWER = 0, 1, 2, 3  # streams of OUTPUT, and the agent's descriptors
FIRST_SPARE_DESCRIPTOR = 8  # beyond those that the agent is given
READ_BYTES = 65_536
DRAIN_BYTES = 1024 * 1024  # what is still read after the agent's end: no pipe holds more
STOP_SECONDS = 2.0
CGROUP_FILE_BYTES = 4096  # of each; all together fit one frame
DIAL_SECONDS = 1.0  # loopback answers at once; a full backlog must not hold us up
COUNT = struct.Struct("!I")  # the payload of CREDIT
WINDOW = 131_072  # bytes of a connection, each way, that its reader has not taken yet
ACCEPTED_NUMBERS = 0x8000_0000  # streams from here on are the agent's; those below were dialed
BACKLOG = 1024  # connections that the kernel keeps until we accept them
ACCEPTED_AT_ONCE = 16  # then the others, the host among them, have their turn
PAUSE_SECONDS = 1.0  # until the other side has closed too, and before we try again to accept
NEARLY_FULL_BYTES = 65_536
OUR_MOUNTS = ("/", "/opt/agenttrace")
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
NOT_INHERITED = (*IGNORED, signal.SIGPIPE, signal.SIGCHLD, signal.SIGXFSZ)
"""What we or our Python ignore, which would be ignored by the agent and all its children too."""


class JsonSyntax:
    """What json.JSONDecoder tells the scanner by default."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


scan_json = _json.make_scanner(JsonSyntax)


def from_json(payload):
    """The value in a request; the host is trusted to send JSON."""
    value, _ = scan_json(payload.decode(), 0)
    return value


def as_json(value):
    """Of strings, whole numbers, booleans, None, and lists and dictionaries of them."""
    if isinstance(value, str):
        return _json.encode_basestring_ascii(value)
    if isinstance(value, dict):
        pairs = (f"{as_json(name)}: {as_json(item)}" for name, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(as_json, value)) + "]"
    if value is None:
        return "null"
    return str(value).lower()  # True, False, and whole numbers


class Channel:
    """Frames over our stdin and stdout. Writing blocks: the host always reads."""

    def __init__(self):
        self.received = bytearray()

    def send(self, kind, payload=b"", stream=0):
        view = memoryview(HEADER.pack(len(payload), kind, stream) + payload)
        while view:
            view = view[os.write(STDOUT, view) :]

    def send_json(self, kind, value, stream=0):
        self.send(kind, as_json(value).encode(), stream)

    def receive(self):
        """The complete frames that have arrived; None once the host has gone."""
        data = os.read(STDIN, READ_BYTES)
        if not data:
            return None
        self.received += data
        frames = []
        while len(self.received) >= HEADER.size:
            length, kind, stream = HEADER.unpack_from(self.received)
            if length > MAX_REQUEST:
                raise SystemExit(f"a request of {length} bytes")
            end = HEADER.size + length
            if len(self.received) < end:
                break
            frames.append((kind, stream, bytes(self.received[HEADER.size : end])))
            del self.received[:end]
        return frames


class Output:
    """One of the agent's output pipes: forwarded up to a cap, then read, counted and dropped."""

    def __init__(self, channel, stream, cap):
        self.channel = channel
        self.stream = stream
        self.cap = cap
        self.total = 0
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)

    def pump(self):
        """Forwards one read; the number of bytes, 0 at the end, None when there is nothing now."""
        try:
            data = os.read(self.read_end, READ_BYTES)
        except BlockingIOError:
            return None
        kept = data[: max(0, self.cap - self.total)]
        self.total += len(data)
        if kept:
            self.channel.send(OUTPUT, kept, self.stream)
        return len(data)

    def drain(self):
        """Forwards what is in the pipe now, and no more: a daemon may write for ever."""
        budget = DRAIN_BYTES
        while budget > 0:
            count = self.pump()
            if not count:
                return
            budget -= count


class Agent:
    """The agent's first process and its pipes."""

    def __init__(self, channel, request):
        self.outputs = [
            Output(channel, STDOUT, request["stdout_cap"]),
            Output(channel, STDERR, request["stderr_cap"]),
            Output(channel, ANSWER, request["answer_cap"]),
        ]
        self.stdin_read, self.stdin_write = os.pipe()
        os.set_blocking(self.stdin_write, False)
        self.pending = memoryview(request["stdin"].encode("utf-8", "surrogatepass"))
        self.writable = request["writable"]
        self.identity = ""
        self.pid = self._start(request)

    def _start(self, request):
        report_read, report_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            become_agent(self, request, report_write)
        os.close(report_write)
        os.close(self.stdin_read)
        for output in self.outputs:
            os.close(output.write_end)
        identity, _, failure = read_to_end(report_read).partition(b"\0")
        self.identity = identity.decode("ascii", "replace")
        if failure:
            raise AgentNotStarted(failure.decode("utf-8", "replace"))
        return pid

    def feed(self):
        """Writes what the pipe takes of stdin, and closes it after the last byte."""
        try:
            written = os.write(self.stdin_write, self.pending[:READ_BYTES]) if self.pending else 0
            self.pending = self.pending[written:]
        except BlockingIOError:
            return
        except OSError:
            self.pending = memoryview(b"")
        if not self.pending:
            os.close(self.stdin_write)
            self.stdin_write = -1

    def close(self):
        for output in self.outputs:
            if output.read_end >= 0:
                os.close(output.read_end)
                output.read_end = -1
        if self.stdin_write >= 0:
            os.close(self.stdin_write)
            self.stdin_write = -1


class AgentNotStarted(Exception):
    """The agent's command cannot be executed."""


def become_agent(agent, request, report):
    """In the child: gives up every privilege and becomes the agent's command. Never returns."""
    try:
        os.setsid()
        become_likelier_to_be_killed()
        os.nice(5)  # a fork bomb must not starve the process that is to end it
        os.setgroups([])
        os.setresgid(request["gid"], request["gid"], request["gid"])
        os.setresuid(request["uid"], request["uid"], request["uid"])
        os.write(report, own_identity().encode() + b"\0")
        high = [out_of_the_way(output.write_end) for output in agent.outputs]
        report = out_of_the_way(report)
        os.dup2(agent.stdin_read, STDIN)
        for descriptor, target in zip(high, (STDOUT, STDERR, ANSWER), strict=True):
            os.dup2(descriptor, target)
        for number in NOT_INHERITED:
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o022)
        os.chdir(request["cwd"])
        execute(request["argv"], request["env"])
    except BaseException as error:  # noqa: BLE001 - whatever it is, the host must hear of it
        os.write(report, str(error).encode("utf-8", "replace")[:1000] or b"unknown error")
    finally:
        os._exit(127)


def out_of_the_way(descriptor):
    """A duplicate with a number that the agent is not given."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST_SPARE_DESCRIPTOR)


def execute(argv, environment):
    """execvpe, without the modules that Python's own imports to warn of bytes."""
    name = argv[0]
    directories = [""] if "/" in name else environment["PATH"].split(":")
    failure = None
    for directory in directories:
        try:
            os.execve(os.path.join(directory, name), argv, environment)
        except (FileNotFoundError, NotADirectoryError) as error:
            failure = failure or error
        except PermissionError as error:
            failure = error
    raise OSError(f"{name}: {failure.strerror}")


def become_likelier_to_be_killed():
    """So that out of memory ends the agent and not the shim; best effort."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass


def own_identity():
    """Uid, gid, groups and capabilities as the kernel has them, for the host to check."""
    with open("/proc/self/status") as file:
        lines = file.read().splitlines()
    names = ("Uid:", "Gid:", "Groups:", "CapEff:", "CapPrm:", "CapAmb:", "NoNewPrivs:", "Seccomp:")
    return "\n".join(" ".join(line.split()) for line in lines if line.startswith(names))


def read_to_end(descriptor):
    with os.fdopen(descriptor, "rb") as file:
        return file.read(10_000)


class Shim:
    """Answers the host's requests, one poll loop for everything."""

    def __init__(self):
        self.channel = Channel()
        self.agent = None
        self.connections = {}
        self.listener = None
        self.pauses = {}  # when each ends, what then; all are equally long, so the first ends first
        self.poll = select.poll()
        self.handlers = {}
        self.wakeup, wakeup_write = os.pipe()
        os.set_blocking(self.wakeup, False)
        os.set_blocking(wakeup_write, False)
        signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)

    def run(self):
        self.watch(STDIN, self.on_request)
        self.watch(self.wakeup, self.on_child)
        self.channel.send_json(HELLO, hello())
        while True:
            self.turn()

    def turn(self):
        """One look at everything: each that is ready has its turn, and nobody has two."""
        events = self.poll.poll(self.end_pauses())
        ready = [(descriptor, self.handlers.get(descriptor), event) for descriptor, event in events]
        for descriptor, handler, event in ready:
            # another one's handler may have closed it, and its number may have been given anew
            if handler and self.handlers.get(descriptor) is handler:
                handler(event)

    def pause(self, then):
        self.pauses.setdefault(then, time.monotonic() + PAUSE_SECONDS)

    def end_pauses(self):
        """Goes on with what has paused for long enough; milliseconds until the next, if any."""
        while self.pauses:
            then, end = next(iter(self.pauses.items()))
            left = end - time.monotonic()
            if left > 0:
                return left * 1000 + 1
            del self.pauses[then]
            then()
        return None

    def watch(self, descriptor, handler, events=select.POLLIN):
        self.handlers[descriptor] = handler
        self.poll.register(descriptor, events)

    def unwatch(self, descriptor):
        if self.handlers.pop(descriptor, None):
            self.poll.unregister(descriptor)

    def on_request(self, _event):
        frames = self.channel.receive()
        if frames is None:
            kill_everything()
            raise SystemExit(0)
        for kind, stream, payload in frames:
            self.answer(kind, stream, payload)

    def answer(self, kind, stream, payload):
        if kind == START:
            self.start(from_json(payload))
        elif kind == STOP:
            self.stop()
        elif kind == COLLECT:
            Collector(self.channel, from_json(payload)).run()
        elif kind == READ_CGROUP:
            self.channel.send_json(CGROUP, read_cgroup(from_json(payload)))
        elif kind == DIAL:
            self.dial(stream, from_json(payload)["port"])
        elif kind == DATA and stream in self.connections:
            self.connections[stream].write(payload)
        elif kind == CREDIT and stream in self.connections:
            self.connections[stream].allow(*COUNT.unpack(payload))
        elif kind == END and stream in self.connections:
            self.connections[stream].end()
        elif kind == CLOSE and stream in self.connections:
            self.connections[stream].leave()

    # -- the agent ------------------------------------------------------------------------------

    def start(self, request):
        if relay := request.get("relay"):
            self.listener = Listener(self, relay["port"], relay["connections"])
        try:
            self.agent = Agent(self.channel, request)
        except (AgentNotStarted, OSError) as error:
            self.channel.send_json(FAILED, {"error": str(error)})
            return
        self.channel.send_json(STARTED, {"pid": self.agent.pid, "identity": self.agent.identity})
        for output in self.agent.outputs:
            self.watch(output.read_end, lambda _event, output=output: self.on_output(output))
        self.watch(self.agent.stdin_write, self.on_stdin, select.POLLOUT)
        self.on_child(None)  # it may have ended before anybody looked

    def on_output(self, output):
        if output.pump() == 0:
            self.unwatch(output.read_end)

    def on_stdin(self, _event):
        descriptor = self.agent.stdin_write
        self.agent.feed()
        if self.agent.stdin_write < 0:
            self.unwatch(descriptor)

    def on_child(self, _event):
        try:
            os.read(self.wakeup, READ_BYTES)
        except BlockingIOError:
            pass
        for pid, status in reap():
            if self.agent and pid == self.agent.pid:
                self.on_agent_end(status)

    def on_agent_end(self, status):
        for output in self.agent.outputs:
            output.drain()
        self.hang_up()
        code = os.waitstatus_to_exitcode(status)
        report = {"exit_code": code if code >= 0 else None, "signal": -code if code < 0 else None}
        self.channel.send_json(EXITED, report | self.usage())
        self.forget_agent()

    def usage(self):
        totals = {str(output.stream): output.total for output in self.agent.outputs}
        return {"bytes": totals, "full": [m for m in self.agent.writable if is_full(m)]}

    def forget_agent(self):
        for output in self.agent.outputs:
            self.unwatch(output.read_end)
        self.unwatch(self.agent.stdin_write)
        self.agent.close()
        self.agent = None

    def stop(self):
        kill_everything()
        self.hang_up()
        report = {"remaining": wait_until_alone()}
        if self.agent:
            for output in self.agent.outputs:
                output.drain()
            report |= self.usage()
            self.forget_agent()
        self.channel.send_json(STOPPED, report)

    # -- connections ----------------------------------------------------------------------------

    def dial(self, stream, port):
        import _socket  # only for agents that serve or connect; its public face takes 5 ms more

        dialed = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        dialed.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        dialed.settimeout(DIAL_SECONDS)
        try:
            dialed.connect(("127.0.0.1", port))
        except OSError as error:
            dialed.close()
            self.channel.send_json(DIALED, {"error": error.strerror or str(error)}, stream)
            return
        self.channel.send_json(DIALED, {}, stream)
        self.connections[stream] = Connection(self, stream, dialed)

    def forget(self, connection):
        self.connections.pop(connection.stream, None)
        if self.listener and connection.stream >= ACCEPTED_NUMBERS:
            self.listener.made_room()

    def hang_up(self):
        """Ends all connections at once; the host knows, and has forgotten them too."""
        if self.listener:
            self.listener.close()
            self.listener = None
        for connection in self.connections.values():
            connection.disconnect()
        self.connections.clear()
        self.pauses.clear()


class Listener:
    """The gateway's address inside the container: each connection made to it is the host's."""

    def __init__(self, shim, port, connections):
        import _socket

        self.shim = shim
        self.socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)  # for the accepted too
        self.socket.bind(("127.0.0.1", port))
        self.socket.listen(BACKLOG)
        self.room = connections  # taken until the host, too, has closed its side
        self.last = -1
        self.listen()

    def listen(self):
        self.shim.watch(self.socket.fileno(), self.on_connection)

    def on_connection(self, _event):
        import _socket

        for _ in range(ACCEPTED_AT_ONCE):
            if self.room == 0:
                self.shim.unwatch(self.socket.fileno())  # the backlog waits
                return
            try:
                descriptor, _ = self.socket._accept()  # noqa: SLF001 - `accept` is not of C
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no descriptor or no memory left; it would be told to us without end
                self.shim.unwatch(self.socket.fileno())
                self.shim.pause(self.listen)
                return
            accepted = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM, 0, descriptor)
            self.room -= 1
            self.last = (self.last + 1) % ACCEPTED_NUMBERS
            stream = ACCEPTED_NUMBERS | self.last
            self.shim.channel.send(ACCEPTED, stream=stream)
            self.shim.connections[stream] = Connection(self.shim, stream, accepted)

    def made_room(self):
        self.room += 1
        if self.room == 1:
            self.listen()

    def close(self):
        self.shim.unwatch(self.socket.fileno())
        self.socket.close()


class Connection:
    """A TCP connection inside the container, relayed; neither side sends beyond the window."""

    def __init__(self, shim, stream, connection):
        import _socket

        self.shim = shim
        self.stream = stream
        self.socket = connection
        self.write_side = _socket.SHUT_WR
        self.events = select.POLLIN
        self.pending = bytearray()  # from the host; at most a window, since it keeps to its credit
        self.delivered = 0  # of what came from the host, and not credited yet
        self.room = WINDOW  # bytes that the host still takes
        self.agent_ended = self.host_ended = self.host_left = self.shut = False
        connection.setblocking(False)
        shim.watch(connection.fileno(), self.on_event)

    def on_event(self, event):
        if event & select.POLLERR or (event & select.POLLHUP and not self.shut):
            self.over()  # it was reset
            return
        if event & select.POLLOUT:
            self.flush()
        if event & (select.POLLIN | select.POLLHUP):
            self.read()
        self.settle()

    def read(self):
        size = READ_BYTES if self.host_left else min(READ_BYTES, self.room)
        if self.socket is None or self.agent_ended or size == 0:
            return
        try:
            data = self.socket.recv(size)
        except BlockingIOError:
            return
        except OSError:
            self.over()
            return
        if not data:
            self.agent_ended = True
        if self.host_left:
            return  # read only because data that nobody read would turn our end into a reset
        self.room -= len(data)
        self.shim.channel.send(DATA if data else END, data, self.stream)

    def write(self, data):
        if self.socket and not self.host_ended:
            self.pending += data
            self.flush()
            self.settle()

    def allow(self, count):
        self.room += count
        self.settle()

    def end(self):
        self.host_ended = True
        self.settle()

    def leave(self):
        """The host wants no more of it, and has no more for it than what is pending."""
        self.host_ended = self.host_left = True
        if self.socket is None:
            self.shim.forget(self)
            return
        self.settle()

    def flush(self):
        try:
            while self.pending:
                sent = self.socket.send(self.pending)
                del self.pending[:sent]
                self.delivered += sent
        except BlockingIOError:
            pass
        except OSError:
            self.over()
            return
        if self.delivered >= WINDOW // 2 and not self.host_ended:
            self.shim.channel.send(CREDIT, COUNT.pack(self.delivered), self.stream)
            self.delivered = 0

    def settle(self):
        """Passes the host's end on once all before it is written, and waits for what is next."""
        if self.socket and self.host_ended and not self.pending and not self.shut:
            self.shut_down()
        if self.socket and self.shut and self.agent_ended:
            self.over()
        if self.socket and self.shut and self.host_left:
            self.shim.pause(self.over)
        if self.socket:
            self.wait_for_next()

    def shut_down(self):
        self.shut = True
        try:
            self.socket.shutdown(self.write_side)
        except OSError:
            self.over()

    def wait_for_next(self):
        readable = not self.agent_ended and (self.room or self.host_left)
        wanted = (select.POLLIN if readable else 0) | (select.POLLOUT if self.pending else 0)
        if wanted == self.events:
            return
        self.events = wanted
        if wanted or not self.shut:  # a reset is told even to those who wait for nothing
            self.shim.watch(self.socket.fileno(), self.on_event, wanted)
        else:  # and so is the end of both sides, again and again, before the last data is read
            self.shim.unwatch(self.socket.fileno())

    def over(self):
        """Both sides have ended, or it broke: the host hears of it unless it has left."""
        self.disconnect()
        if self.host_left:
            self.shim.forget(self)
        else:
            self.shim.channel.send(CLOSE, stream=self.stream)

    def disconnect(self):
        if self.socket:
            self.shim.pauses.pop(self.over, None)
            self.shim.unwatch(self.socket.fileno())
            self.socket.close()
            self.socket = None
            self.pending.clear()


class Collector:
    """Sends the agent's output directory as frames, with the agent's rights, after its death."""

    def __init__(self, channel, request):
        self.channel = channel
        self.request = request
        self.bytes_left = request["max_bytes"]
        self.files_left = request["max_files"]
        self.entries_left = request["max_entries"]
        self.truncated = ""

    def run(self):
        os.setegid(self.request["gid"])
        os.seteuid(self.request["uid"])
        try:
            self.walk(self.request["directory"], "", 0)
        except OSError as error:
            self.truncated = f"the directory cannot be read: {error.strerror}"
        finally:
            os.seteuid(0)
            os.setegid(0)
        self.channel.send_json(COLLECTED, {"truncated": self.truncated})

    def walk(self, directory, prefix, depth):
        with os.scandir(directory) as entries:
            for entry in entries:
                if self.entries_left <= 0:
                    self.truncated = f"more than {self.request['max_entries']} entries"
                    return
                self.entries_left -= 1
                self.visit(entry, prefix + bytewise(entry.name), depth)

    def visit(self, entry, name, depth):
        try:
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                if depth >= self.request["max_depth"]:
                    self.skip(name, "nested too deep")
                else:
                    self.walk(entry.path, name + "/", depth + 1)
            elif stat.S_ISREG(mode):
                self.send_file(entry.path, name)
            else:
                self.skip(name, kind_of(mode))
        except OSError as error:
            self.skip(name, error.strerror or str(error))

    def send_file(self, path, name):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            size = os.fstat(descriptor).st_size
            if self.files_left <= 0:
                self.skip(name, f"more than {self.request['max_files']} files", size)
            elif size > self.bytes_left:
                self.skip(name, f"larger than the {self.bytes_left} bytes left", size)
            else:
                self.copy(file, name, size)

    def copy(self, file, name, size):
        self.files_left -= 1
        self.bytes_left -= size
        self.channel.send_json(FILE, {"path": name, "size": size})
        while size > 0:
            data = file.read(min(size, READ_BYTES))
            if not data:
                break
            size -= len(data)
            self.channel.send(FILE_DATA, data)
        self.channel.send(FILE_END)

    def skip(self, name, reason, size=0):
        self.channel.send_json(FILE, {"path": name, "size": size, "skipped": reason})


def bytewise(name):
    """A character for each byte: a name may be no text at all, and JSON holds only text."""
    return os.fsencode(name).decode("latin-1")


def kind_of(mode):
    names = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return names.get(stat.S_IFMT(mode), "not a regular file")


def hello():
    """Who we are, and what the kernel says of this container, for the host to check."""
    with open("/proc/mounts", errors="replace") as file:
        mounts = [line.split()[1:4] for line in file]
    return {
        "protocol": PROTOCOL,
        "python": ".".join(map(str, sys.version_info[:3])),
        "pid": os.getpid(),
        "identity": own_identity(),
        "mounts": [m for m in mounts if is_ours(m[0])],  # the image names the others
        "interfaces": sorted(os.listdir("/sys/class/net"))
        if os.path.isdir("/sys/class/net")
        else [],
    }


def is_ours(point):
    """The root, our own directory, and whatever a link in the image has led into it."""
    return point in OUR_MOUNTS or point.startswith(OUR_MOUNTS[1] + "/")


def reap():
    """Pid and status of every process that has ended; orphans become ours, so none stays."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def kill_everything():
    """SIGKILL to all but ourselves: one call, under a lock of the kernel's that no fork escapes."""
    if os.getpid() != 1:
        raise SystemExit("only PID 1 of a container may kill everything it can see")
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        pass


def wait_until_alone():
    """How many other processes are left, once none is or the time is up."""
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        for _ in reap():
            pass
        others = [name for name in os.listdir("/proc") if name.isdecimal() and name != "1"]
        if not others or time.monotonic() > deadline:
            return len(others)
        kill_everything()
        time.sleep(0.002)


def is_full(directory):
    """Whether a write there would fail for lack of space or inodes."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < NEARLY_FULL_BYTES or found.f_favail == 0


def read_cgroup(names):
    """The text of each file that exists, by name: v2 is flat, v1 has a directory a controller."""
    found = {}
    for name in names:
        try:
            with open("/sys/fs/cgroup/" + name) as file:
                found[name] = file.read(CGROUP_FILE_BYTES)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EACCES, errno.ENODEV, errno.EOPNOTSUPP):
                raise
    return found


if __name__ == "__main__":
    Shim().run()
