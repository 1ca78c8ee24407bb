"""Metrics: what a worker did and what waits, for Prometheus to collect.

No label holds what an agent or a submitter can make many of: no run, no task, no submitter. The one
that names endpoints, of breakers, is capped in number and length.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Lock, Thread
from typing import Any, assert_never

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

from runner.domain import BreakerState, ExecutionStatus, FailureReason, JobState, QueueStatus
from runner.domain.queue import WorkerIdentity
from runner.domain.run import EventKind, RunEvent
from runner.domain.text import one_line
from runner.errors import UsageError
from runner.telemetry.redaction import without_userinfo

LOOPBACK = "127.0.0.1"
MOST_BREAKERS = 50
"""Named at once; those that are not closed come first."""
LONGEST_LABEL = 100
"""Characters."""
REQUEST_SECONDS = 10.0
LONGEST_SECONDS = 1e9
"""What took longer was not measured."""
ATTEMPT_BUCKETS = (0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
"""Seconds; the default time limit is 300."""

POSTPONED = "postponed"
"""The outcome of a job that waits again; the others are the statuses of runs."""

_OUTCOMES = (ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED)
_UNKNOWN = "other"
_BREAKER_VALUES = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}

_log = logging.getLogger(__name__)

_Attempt = tuple[str | None, int | None]
"""Task and repeat: each has one attempt at a time."""


class Metrics:
    """What one process has counted, in a registry of its own; of use from any thread.

    `version` is the runner's. `worker` is None in a process that is none.
    """

    def __init__(self, *, version: str, worker: WorkerIdentity | None = None) -> None:
        self.registry = CollectorRegistry()
        self._lock = Lock()
        self._running: dict[str, set[_Attempt]] = {}
        self._make_counters()
        self._make_gauges()
        self._describe(version, worker)

    def _make_counters(self) -> None:
        self._jobs = self._counter("jobs", "Jobs that this process let go of.", "outcome")
        self._attempts = self._counter(
            "attempts", "Attempts that ended.", "status", "failure_reason"
        )
        self._retried = self._counter("attempts_retried", "Attempts that were made again.")
        self._takeovers = self._counter("lease_takeovers", "Jobs of lost workers, gone on with.")
        self._store_errors = self._counter("store_errors", "Calls of the store that failed.")
        self._seconds = Histogram(
            "agenttrace_attempt_seconds",
            "How long final attempts took, by the host's clock.",
            buckets=ATTEMPT_BUCKETS,
            registry=self.registry,
        )
        for outcome in (*_OUTCOMES, POSTPONED):  # a rate needs a first sample: 0
            self._jobs.labels(outcome)

    def _make_gauges(self) -> None:
        self._queue = self._gauge("queue_jobs", "Jobs in the store, of all workers.", "state")
        self._workers = self._gauge("workers", "Workers that have reported and not ended.")
        self._running_jobs = self._gauge("running_jobs", "Jobs that this process works on.")
        self._running_attempts = self._gauge("running_attempts", "Attempts under way here.")
        self._breakers = self._gauge("breaker_state", "0 closed, 1 half-open, 2 open.", "name")
        self._more_breakers = self._gauge("breakers_unnamed", "Breakers beyond those named.")

    def _describe(self, version: str, worker: WorkerIdentity | None) -> None:
        build = Info("agenttrace_build", "The program.", registry=self.registry)
        build.info({"version": version})
        if worker is not None:
            info = Info("agenttrace_worker", "This process.", registry=self.registry)
            info.info({"worker": _label(worker.worker), "host": _label(worker.host)})
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"agenttrace_{name}", meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"agenttrace_{name}", meaning, labels, registry=self.registry)

    # -- what feeds them ------------------------------------------------------------------------

    def observe(self, event: RunEvent) -> None:
        """A `Notify`: counts what happened; never raises, never waits."""
        self._count(event)
        with self._lock:
            self._follow(event)
            self._set_running()

    def _count(self, event: RunEvent) -> None:
        data = event.data
        match event.kind:
            case EventKind.TASK_FINISHED:
                self._count_attempt(data.get("status"), data.get("failure_reason"))
                self._time_attempt(data.get("seconds"))
            case EventKind.TASK_RETRIED:
                self._count_attempt(ExecutionStatus.FAILED, data.get("failure_reason", _UNKNOWN))
                self._retried.inc()
            case EventKind.RUN_FINISHED:
                self._jobs.labels(_one_of(ExecutionStatus, data.get("status"))).inc()
            case EventKind.RUN_POSTPONED:
                self._jobs.labels(POSTPONED).inc()
            case _:
                pass

    def _count_attempt(self, status: object, reason: object) -> None:
        labels = _one_of(ExecutionStatus, status), _one_of(FailureReason, reason or "none")
        self._attempts.labels(*labels).inc()

    def _time_attempt(self, seconds: object) -> None:
        if isinstance(seconds, int | float) and 0 <= seconds <= LONGEST_SECONDS:
            self._seconds.observe(seconds)

    def _follow(self, event: RunEvent) -> None:
        """What is under way; as a set, so that an event that is missing or doubled heals."""
        attempt = event.task_id, event.repeat
        match event.kind:
            case EventKind.CLAIMED | EventKind.RUN_STARTED | EventKind.RUN_RESUMED:
                self._running[event.run_id] = set()
            case EventKind.TASK_STARTED:
                self._running.setdefault(event.run_id, set()).add(attempt)
            case EventKind.TASK_RETRIED | EventKind.TASK_FINISHED:
                self._running.get(event.run_id, set()).discard(attempt)
            case EventKind.RUN_FINISHED | EventKind.RUN_POSTPONED:
                self._running.pop(event.run_id, None)
            case EventKind.SUBMITTED | EventKind.RUN_DRAINING:
                pass
            case _:
                assert_never(event.kind)

    def _set_running(self) -> None:
        self._running_jobs.set(len(self._running))
        self._running_attempts.set(sum(map(len, self._running.values())))

    def queue(self, status: QueueStatus) -> None:
        """What waits, who works, and which breakers have anything to say, as it stands now."""
        for state, jobs in {
            JobState.QUEUED: status.queue_size,
            JobState.RUNNING: status.active_executions,
            JobState.FINISHED: status.finished,
            JobState.FAILED: status.failed,
            JobState.CANCELLED: status.cancelled,
        }.items():
            self._queue.labels(state.value).set(jobs)
        self._workers.set(len(status.workers))
        self._set_breakers(status)

    def _set_breakers(self, status: QueueStatus) -> None:
        worst = sorted(
            ((_BREAKER_VALUES[each.breaker.state], each.name) for each in status.circuit_breakers),
            key=lambda breaker: (-breaker[0], breaker[1]),
        )
        self._breakers.clear()
        for value, name in worst[:MOST_BREAKERS]:
            self._breakers.labels(_label(name)).set(value)
        self._more_breakers.set(len(worst[MOST_BREAKERS:]))

    def let_go(self, run_id: str) -> None:
        """This process does not work on that run any more, and no event has said so."""
        with self._lock:
            self._running.pop(run_id, None)
            self._set_running()

    def lease_taken_over(self) -> None:
        """A job of a lost worker was gone on with."""
        self._takeovers.inc()

    def store_failed(self) -> None:
        """A call of the store ended with StoreUnavailable."""
        self._store_errors.inc()


def _one_of(known: type[StrEnum], value: object) -> str:
    """A label that only takes the values of `known`, `none` and `other`."""
    text = str(value)
    return text if text == "none" or text in set(known) else _UNKNOWN


def _label(text: str) -> str:
    return one_line(without_userinfo(text), LONGEST_LABEL)


# -- over HTTP ----------------------------------------------------------------------------------


@contextmanager
def serve(metrics: Metrics, address: str = LOOPBACK, port: int = 0) -> Iterator[int]:
    """Within it `/metrics` and `/healthz` are answered at `address`; gives the port.

    `port` 0: a free one. Raises UsageError where it cannot be listened at.
    """
    server = _listen(metrics, address, port)
    thread = Thread(
        target=server.serve_forever, args=(0.1,), name="agenttrace-metrics", daemon=True
    )
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _listen(metrics: Metrics, address: str, port: int) -> _Server:
    try:
        return _Server(metrics, address, port)
    except (OSError, OverflowError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(
            f"cannot serve metrics at {one_line(address)}, port {port}: {one_line(reason).lower()}",
            remedy="choose an address of this host and another port, or port 0 for a free one",
        ) from error


class _Server(ThreadingHTTPServer):
    """Listens from its construction on."""

    daemon_threads = True

    def __init__(self, metrics: Metrics, address: str, port: int) -> None:
        self.metrics = metrics
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), _Handler)

    def server_bind(self) -> None:
        """Without HTTPServer's own, which asks the DNS for a name that nobody needs."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "agenttrace", self.socket.getsockname()[1]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as inherited
        """A client that goes away, or one that we cannot answer, is no affair of stderr's."""
        _log.debug("a request for metrics was not answered", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET for two paths, and says nothing of the program's versions."""

    server: _Server
    timeout = REQUEST_SECONDS
    server_version = "agenttrace"
    sys_version = ""

    def do_GET(self) -> None:
        """The path's text, or 404."""
        match self.path.partition("?")[0]:
            case "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(HTTPStatus.OK, encode(self.server.metrics.registry), content_type)
            case "/healthz":
                self._answer(HTTPStatus.OK, b"ok\n")
            case _:
                self._answer(HTTPStatus.NOT_FOUND, b"there is /metrics and /healthz\n")

    def _answer(
        self, status: HTTPStatus, body: bytes, content_type: str = "text/plain; charset=utf-8"
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """For debugging alone."""
        _log.debug("metrics: %s", format % args)
