"""Workers that are asked to end, jobs that are cancelled or have to wait, agents out of reach."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from runner.domain import (
    AgentEndpoint,
    BenchmarkSubmission,
    EventKind,
    JobState,
    QuotaState,
    Schedule,
)
from runner.intake import load_submission
from runner.orchestrator.worker import DRAINING
from tests.end_to_end.shell import state_of, wait_until
from tests.end_to_end.test_interrupts import BUILT, DOCKERFILE, building, nameless

from .queueing import SESSION, Service, assert_finished, assert_settled, drained, ended
from .whole import attempts_of

pytestmark = pytest.mark.docker

STOPPED = "its worker was stopped"


# -- drained ---------------------------------------------------------------------------------------


def test_drained_and_gone_on_with(either: Service) -> None:
    """What is in progress ends; the rest waits for the next worker, as after an upgrade."""
    run_id = either.submit("once_patient")
    worker = either.worker()
    name = either.wait_until_waiting()
    worker.interrupt(signal.SIGTERM)
    worker.wait_for(DRAINING)
    assert state_of(either.shell.client, name)["Running"]
    count = len(attempts_of(either.run(run_id)))
    either.release(name)
    ended(worker)
    job, before = either.job(run_id), attempts_of(either.run(run_id))
    assert (job.state, job.note, job.losses) == (JobState.QUEUED, STOPPED, 0)
    assert len(before) == count + 1
    assert_settled(either)

    next_worker = either.worker("--until-empty")
    ended(next_worker)
    assert_finished(either, run_id, before)
    assert len(attempts_of(either.run(run_id))) == 4, "nothing was begun in vain"
    assert EventKind.RUN_RESUMED in either.kinds(run_id)
    assert_settled(either)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_now(service: Service, number: signal.Signals) -> None:
    """The container is gone, the worker ends well, and the job can be gone on with."""
    run_id = service.submit("once_patient")
    worker = service.worker()
    name = service.wait_until_waiting()
    before = attempts_of(service.run(run_id))
    worker.interrupt(signal.SIGTERM)
    worker.wait_for(DRAINING)  # or the two may come as one
    worker.interrupt(number)
    ended(worker)
    assert not state_of(service.shell.client, name)
    assert (service.job(run_id).state, service.job(run_id).note) == (JobState.QUEUED, STOPPED)
    assert_settled(service)
    again = service.worker("--until-empty")
    service.release(service.wait_until_waiting())
    ended(again)
    assert_finished(service, run_id, before)
    assert_settled(service)


@pytest.mark.slow
def test_all_workers_of_the_host_are_drained_from_elsewhere(service: Service) -> None:
    run_id = service.submit("once_patient")
    workers = [service.worker() for _ in range(2)]
    name = service.wait_until_waiting()
    names = {status.worker for status in service.wait_for_workers(2)}
    draining = service.shell.start("worker", "--drain")
    for worker in names:
        draining.wait_for(f"worker {worker} is draining")
    assert draining.process.poll() is None, "it waits"
    service.release(name)
    said = ended(draining).err
    assert all(f"worker {worker} has ended" in said for worker in names)
    assert said.endswith("2 workers have ended\n")
    for worker in workers:
        ended(worker)
    assert service.job(run_id).state is JobState.QUEUED
    assert service.shell("worker", "--drain").err == "no worker runs on this host\n"
    service.work_off()
    assert_finished(service, run_id)
    assert_settled(service)


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_drained_while_an_image_is_built(service: Service, times: int) -> None:
    """Nothing of the build is left, and the job waits."""
    mark = f"{SESSION}-{time.monotonic_ns()}"
    service.shell.write("sub/submission.toml", BUILT)
    service.shell.write("sub/Dockerfile", DOCKERFILE.format(mark=mark))
    submission = load_submission(str(service.shell.directory / "sub"))
    run_id = service.enqueue(submission)
    worker = service.worker()
    wait_until(lambda: building(service.shell.client, mark))
    worker.interrupt(signal.SIGTERM)
    if times == 2:
        worker.wait_for(DRAINING)
        worker.interrupt(signal.SIGTERM)
    ended(worker)
    assert (service.job(run_id).state, service.job(run_id).note) == (JobState.QUEUED, STOPPED)
    wait_until(lambda: not building(service.shell.client, mark))
    assert not nameless(service.shell.client, mark)
    assert not service.run(run_id).exists()
    assert_settled(service)


# -- cancelled, and put back -----------------------------------------------------------------------


@pytest.mark.slow
def test_cancelled_while_it_runs(either: Service) -> None:
    run_id = either.submit("once_patient")
    beating = {"AGENTTRACE_QUEUE__LEASE_SECONDS": "2"}
    worker = either.worker(**beating)
    name = either.wait_until_waiting()
    before = attempts_of(either.run(run_id))
    assert either.shell("queue", "cancel", run_id).code == 0
    either.wait_for(run_id, JobState.CANCELLED)
    wait_until(lambda: not state_of(either.shell.client, name))
    drained(worker)
    assert_settled(either)

    assert either.shell("queue", "retry", run_id).code == 0
    [entry] = either.quota()
    assert entry.state is QuotaState.RESERVED
    again = either.worker("--until-empty", **beating)
    either.release(either.wait_until_waiting())
    ended(again)
    assert_finished(either, run_id, before)
    assert_settled(either)


@pytest.mark.slow
def test_cancelled_before_it_runs(service: Service) -> None:
    run_id = service.submit()
    assert service.shell("queue", "cancel", run_id).code == 0
    service.work_off()
    assert service.job(run_id).state is JobState.CANCELLED
    assert not service.run(run_id).exists()
    assert_settled(service)
    assert service.shell("queue", "retry", run_id).code == 0
    service.work_off()
    assert_finished(service, run_id)
    assert_settled(service)


# -- whose turn it is ------------------------------------------------------------------------------


@pytest.mark.slow
def test_in_turns_by_priority_and_not_before_its_time(service: Service) -> None:
    first = service.submit("right", "-l", "1", by="many")
    tomorrow = Schedule(not_before=datetime.now(UTC) + timedelta(days=1))
    runs = {first: "many"}
    runs |= {service.enqueue(first, by="many"): "many" for _ in range(5)}
    runs |= {service.enqueue(first, by="few"): "few" for _ in range(2)}
    urgent = service.enqueue(first, by="many", schedule=Schedule(priority=5))
    waits = service.enqueue(first, by="few", schedule=tomorrow)
    service.work_off(AGENTTRACE_QUEUE__WORKERS="1")
    assert service.job(waits).state is JobState.QUEUED
    done = sorted(
        (job for job in service.jobs() if job.state is JobState.FINISHED),
        key=lambda job: job.first_claimed_at or datetime.max.replace(tzinfo=UTC),
    )
    assert done[0].run_id == urgent
    order = [runs[job.run_id] for job in done[1:]]
    assert sorted(order[:4]) == ["few", "few", "many", "many"]
    assert order[0] != order[1]
    assert order[2] != order[3]
    assert order[4:] == ["many"] * 4
    assert_settled(service)


@pytest.mark.slow
def test_in_time(service: Service) -> None:
    """A worker that waits begins a job when its time has come."""
    first = service.submit()
    service.work_off()
    due = datetime.now(UTC) + timedelta(seconds=3)
    run_id = service.enqueue(first, schedule=Schedule(not_before=due))
    worker = service.worker()
    service.wait_for(run_id, JobState.FINISHED)
    drained(worker)
    claimed = service.job(run_id).first_claimed_at
    assert claimed
    assert claimed >= due
    assert_settled(service)


# -- an agent out of reach -------------------------------------------------------------------------


class Answers(BaseHTTPRequestHandler):
    """What the agents here do, over HTTP."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = str(asked["prompt"]).removeprefix("Say ").rstrip(".")
        body = json.dumps({"output": said}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@contextmanager
def answering(server: ThreadingHTTPServer) -> Iterator[None]:
    """From now on it listens, and answers."""
    server.server_activate()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


def remote(port: int) -> BenchmarkSubmission:
    return BenchmarkSubmission(
        agent_name="remote",
        agent_version="1.0.0",
        submitted_by="team",
        contact_email="a@example.org",
        terms_accepted=True,
        agent_endpoint=AgentEndpoint(endpoint_type="http", url=f"http://127.0.0.1:{port}/"),
    )


def test_an_endpoint_that_refuses(either: Service) -> None:
    """It is left alone for a while, the job waits, and is done when the endpoint is back."""
    near = {
        "AGENTTRACE_REMOTE__ALLOW_ADDRESSES": "127.0.0.1/32",
        "AGENTTRACE_REMOTE__ALLOW_PLAIN_HTTP": "true",
        "AGENTTRACE_REMOTE__RETRIES": "0",
        "AGENTTRACE_RUN__RETRY_DELAYS": "[0]",
        "AGENTTRACE_BREAKER__FAILURES": "2",
        "AGENTTRACE_BREAKER__OPEN_SECONDS": "3",
    }
    # Bound, and not listening: connections are refused, and nobody else gets the port.
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers, bind_and_activate=False) as server:
        server.server_bind()
        run_id = either.enqueue(remote(server.server_port))
        ended(either.worker("--until-empty", **near))
        job = either.job(run_id)
        assert (job.state, job.claims) == (JobState.QUEUED, 1)
        assert "the circuit breaker of" in job.note
        assert len(attempts_of(either.run(run_id))) == 2
        [status] = either.shell("queue", "breakers", "--json", **near).json
        assert status["breaker"]["state"] == "open"
        assert str(server.server_port) in status["name"]
        assert_settled(either)
        with answering(server):
            worker = either.worker(**near)
            either.wait_for(run_id, JobState.FINISHED)
            drained(worker)
    assert either.shell("queue", "breakers", "--json").json == []
    assert_finished(either, run_id)
    assert_settled(either)
