"""What is counted, how it is named, and how it is served."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from runner.domain import Breaker, BreakerState, BreakerStatus, QueueStatus
from runner.domain.queue import WorkerIdentity
from runner.domain.run import EventKind, RunEvent
from runner.errors import UsageError
from runner.telemetry.metrics import LONGEST_LABEL, MOST_BREAKERS, Metrics, serve

NOW = datetime(2026, 3, 14, 9, 26, tzinfo=UTC)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(version="0.1.0", worker=WorkerIdentity(worker="w1", host="h1"))


def values(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(metrics: Metrics, sample: str, /, **labels: str) -> float | None:
    return values(metrics).get((f"agenttrace_{sample}", frozenset(labels.items())))


def event(
    kind: EventKind, run_id: str = "r1", task_id: str | None = None, **data: object
) -> RunEvent:
    repeat = 1 if task_id else None
    return RunEvent(kind=kind, at=NOW, run_id=run_id, task_id=task_id, repeat=repeat, data=data)


def test_a_run_from_claim_to_end(metrics: Metrics) -> None:
    def running() -> tuple[float | None, float | None]:
        return value(metrics, "running_jobs"), value(metrics, "running_attempts")

    metrics.observe(event(EventKind.CLAIMED, worker="w1", token=1))
    metrics.observe(event(EventKind.RUN_STARTED, total=2))
    metrics.observe(event(EventKind.TASK_STARTED, task_id="a"))
    metrics.observe(event(EventKind.TASK_STARTED, task_id="b"))
    assert running() == (1, 2)
    metrics.observe(event(EventKind.TASK_RETRIED, task_id="a", failure_reason="internal_error"))
    assert running() == (1, 1)
    metrics.observe(event(EventKind.TASK_STARTED, task_id="a"))
    metrics.observe(
        event(EventKind.TASK_FINISHED, task_id="a", status="completed", seconds=3.0, score=1)
    )
    metrics.observe(
        event(
            EventKind.TASK_FINISHED,
            task_id="b",
            status="timeout",
            failure_reason="agent_timeout",
            seconds=301.0,
        )
    )
    assert running() == (1, 0)
    metrics.observe(event(EventKind.RUN_FINISHED, status="completed", score=50.0))
    assert running() == (0, 0)
    attempts = {
        (status, reason): value(metrics, "attempts_total", status=status, failure_reason=reason)
        for status, reason in [
            ("completed", "none"),
            ("timeout", "agent_timeout"),
            ("failed", "internal_error"),
        ]
    }
    assert set(attempts.values()) == {1.0}
    assert value(metrics, "attempts_retried_total") == 1
    assert value(metrics, "attempt_seconds_count") == 2
    assert value(metrics, "attempt_seconds_sum") == 304
    assert value(metrics, "attempt_seconds_bucket", le="5.0") == 1
    assert value(metrics, "jobs_total", outcome="completed") == 1
    assert value(metrics, "jobs_total", outcome="failed") == 0


def test_what_is_under_way_ends_with_its_run(metrics: Metrics) -> None:
    for run_id in ("r1", "r2", "r3"):
        metrics.observe(event(EventKind.RUN_RESUMED, run_id, total=2, finished=1))
        metrics.observe(event(EventKind.TASK_STARTED, run_id, "a"))
        metrics.observe(event(EventKind.TASK_STARTED, run_id, "a"))
    assert value(metrics, "running_attempts") == 3
    metrics.observe(event(EventKind.RUN_POSTPONED, "r1", reason="open", until=NOW.isoformat()))
    metrics.let_go("r2")
    metrics.let_go("unknown")
    metrics.observe(event(EventKind.TASK_FINISHED, "r2", "a", status="completed"))
    assert (value(metrics, "running_jobs"), value(metrics, "running_attempts")) == (1, 1)
    assert value(metrics, "jobs_total", outcome="postponed") == 1


@pytest.mark.parametrize("kind", EventKind)
@pytest.mark.parametrize("junk", [None, "\x1b[2J", -1, float("nan"), [], {"a": 1}, 10**400])
def test_no_event_raises_or_makes_a_label(metrics: Metrics, kind: EventKind, junk: object) -> None:
    names = ("status", "failure_reason", "reason", "seconds", "token", "total")
    metrics.observe(event(kind, task_id="t", **dict.fromkeys(names, junk)))
    labels = {text for _, pairs in values(metrics) for _, text in pairs}
    assert str(junk) not in labels - {"None", "-1"}


def test_no_label_names_a_run_or_a_task(metrics: Metrics) -> None:
    for kind in EventKind:
        metrics.observe(event(kind, "the-run", "the-task", worker="another", status="failed"))
    text = generate_latest(metrics.registry).decode()
    assert not {"the-run", "the-task", "another"} & set(text.replace('"', " ").split())


def breaker(name: str, state: BreakerState) -> BreakerStatus:
    return BreakerStatus(name=name, breaker=Breaker(state=state))


def test_the_queue(metrics: Metrics) -> None:
    metrics.queue(
        QueueStatus(
            queue_size=4,
            active_executions=3,
            finished=2,
            failed=1,
            circuit_breakers=(
                breaker("endpoint https://a:1", BreakerState.OPEN),
                breaker("engine e", BreakerState.HALF_OPEN),
                breaker("endpoint https://u:pass@b:1", BreakerState.CLOSED),
            ),
        )
    )
    states = ("queued", "running", "finished", "failed", "cancelled")
    assert [value(metrics, "queue_jobs", state=state) for state in states] == [4, 3, 2, 1, 0]
    assert value(metrics, "breaker_state", name="endpoint https://a:1") == 2
    assert value(metrics, "breaker_state", name="engine e") == 1
    assert "pass" not in generate_latest(metrics.registry).decode().replace("passed", "")
    metrics.queue(QueueStatus(queue_size=0, active_executions=0))
    assert value(metrics, "queue_jobs", state="queued") == 0
    assert value(metrics, "breaker_state", name="engine e") is None


def test_breakers_are_capped_and_the_worst_come_first(metrics: Metrics) -> None:
    many = [breaker(f"endpoint {n}{'x' * 1000}", BreakerState.CLOSED) for n in range(200)]
    status = QueueStatus(
        queue_size=0,
        active_executions=0,
        circuit_breakers=(*many, breaker("worst", BreakerState.OPEN)),
    )
    metrics.queue(status)
    named = [dict(labels)["name"] for name, labels in values(metrics) if name.endswith("r_state")]
    assert len(named) == MOST_BREAKERS
    assert "worst" in named
    assert max(map(len, named)) <= LONGEST_LABEL
    assert value(metrics, "breakers_unnamed") == 201 - MOST_BREAKERS


def test_what_describes_the_process(metrics: Metrics) -> None:
    metrics.lease_taken_over()
    metrics.store_failed()
    assert value(metrics, "lease_takeovers_total") == 1
    assert value(metrics, "store_errors_total") == 1
    assert value(metrics, "build_info", version="0.1.0") == 1
    assert value(metrics, "worker_info", worker="w1", host="h1") == 1
    assert values(metrics)[("process_resident_memory_bytes", frozenset())] > 0
    assert not [name for name, _ in values(Metrics(version="1")) if "worker_info" in name]


# -- served -------------------------------------------------------------------------------------


@pytest.fixture
def port(metrics: Metrics) -> Iterator[int]:
    with serve(metrics) as port:
        yield port


def get(port: int, path: str, method: str = "GET") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()
    finally:
        connection.close()


def test_metrics_over_http(metrics: Metrics, port: int) -> None:
    metrics.store_failed()
    status, content_type, text = get(port, "/metrics")
    assert (status, content_type.split(";")[0]) == (200, "text/plain")
    samples = {s.name: s.value for f in text_string_to_metric_families(text) for s in f.samples}
    assert samples["agenttrace_store_errors_total"] == 1


def test_health_and_unknown_paths(port: int) -> None:
    assert get(port, "/healthz")[::2] == (200, "ok\n")
    assert get(port, "/metrics?name[]=x")[0] == 200
    assert get(port, "/")[0] == 404
    assert get(port, "/metrics/../etc/passwd")[0] == 404
    assert get(port, "/metrics", "POST")[0] == 501


def test_the_server_and_its_thread_end_with_the_block(metrics: Metrics) -> None:
    before = threading.active_count()
    with serve(metrics) as port:
        assert get(port, "/healthz")[0] == 200
    assert threading.active_count() <= before + 1  # that of a request may just be ending
    assert not [t for t in threading.enumerate() if t.name == "agenttrace-metrics"]
    with pytest.raises(ConnectionRefusedError):
        get(port, "/healthz")
    with serve(metrics, port=port) as again:
        assert again == port


def test_a_port_in_use(metrics: Metrics, port: int) -> None:
    with (
        pytest.raises(UsageError, match=f"port {port}: address already in use") as raised,
        serve(metrics, port=port),
    ):
        pass
    assert "another port" in raised.value.remedy


@pytest.mark.parametrize(("address", "port"), [("203.0.113.1", 0), ("127.0.0.1", 70_000)])
def test_what_cannot_be_listened_at(metrics: Metrics, address: str, port: int) -> None:
    with pytest.raises(UsageError) as raised, serve(metrics, address, port):
        pass
    assert raised.value.remedy


def test_a_client_that_says_nothing_stops_no_other(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)):
        assert get(port, "/healthz")[0] == 200
