"""Runs `agenttrace` and sends it a signal at one exact point, those of workers included.

    python -m tests.faults.halting KILL|STOP POINT[:N] -- worker ...

As `tests.faults.killing`, whose points it knows too. A process that was stopped goes on from that
point at SIGCONT.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

from runner.store import database

from . import killing

POINTS = {
    "claimed": "before runner.orchestrator.worker:Worker._begin",
    "taken over": "after runner.records.run_directory:RunDirectory.take_over",
    "before adopting": "before runner.store.runs:SqlRunLedger.adopt_attempt",
    "after adopting": "after runner.store.runs:SqlRunLedger.adopt_attempt",
    "before beginning": "before runner.store.runs:SqlRunLedger.begin_attempt",
    "begun": "after runner.store.runs:SqlRunLedger.begin_attempt",
    "between disk and database": "before runner.store.runs:SqlRunLedger.keep_attempt",
    "kept in both": "after runner.store.runs:SqlRunLedger.keep_attempt",
    "before the job's end": "before runner.store.jobs:SqlJobQueue.finish",
    "after the job's end": "after runner.store.jobs:SqlJobQueue.finish",
    "before giving back": "before runner.store.jobs:SqlJobQueue.postpone",
    "after giving back": "after runner.store.jobs:SqlJobQueue.postpone",
}


_in_transaction = threading.RLock()


def outside_of_transactions() -> None:
    """Nobody can help it if a process is stopped while it holds the one lock that SQLite has."""
    transact = database._in_transaction

    def guarded(*arguments: Any) -> Any:
        with _in_transaction:
            return transact(*arguments)

    database._in_transaction = guarded


def halt(number: signal.Signals) -> None:
    """The signal reaches the whole process, whichever thread came to the point.

    Sent to this thread, it has come when the call returns; else this thread might still go on.
    """
    with _in_transaction:
        signal.pthread_kill(threading.get_ident(), number)
    if number is signal.SIGKILL:
        threading.Event().wait()


def main() -> int:
    """Plants the fuse and goes on as the command line does."""
    name, *rest = sys.argv[1:]
    outside_of_transactions()
    killing.POINTS.update(POINTS)
    killing.die = lambda: halt(signal.Signals[f"SIG{name}"])
    sys.argv[1:] = rest
    return killing.main()


if __name__ == "__main__":
    sys.exit(main())
