"""Every reason why there is no verdict, each with an exit code and a next step.

An agent that crashes, hangs or lies is not an error: that is an `Ending` (see `runner.domain`).
"""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from pathlib import Path


class RunnerError(Exception):
    """A run could not be judged.

    `message` says what is wrong, naming the file and field; `remedy` says what to do next. Both are
    one line of trusted text: bytes from a container are escaped before they get here.
    """

    exit_code = 3

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


# -- the user asked for something that cannot be (exit code 2) ---------------------------------


class UsageError(RunnerError):
    """The command or call is wrong: an unknown category, task, run or suite."""

    exit_code = 2


class InvalidSubmission(RunnerError):
    """The manifest, the directory or the image given is not a valid submission."""

    exit_code = 2


class InvalidSuite(RunnerError):
    """A suite file is missing or malformed."""

    exit_code = 2


class InvalidConfiguration(RunnerError):
    """A settings file, profile or environment variable is malformed."""

    exit_code = 2


class QuotaExceeded(RunnerError):
    """The submitter has no submission left in the window; nothing was stored or queued."""

    exit_code = 4


class BuildFailed(InvalidSubmission):
    """The submission did not build, or its image cannot run under our sandbox.

    `log` is the (hostile, unescaped) build output, kept as evidence. `failure_reason` is what a
    result says of it, as `runner.domain.FailureReason` has it.
    """

    failure_reason = "build_failed"

    def __init__(self, message: str, *, remedy: str = "", log: bytes = b"") -> None:
        super().__init__(message, remedy=remedy)
        self.log = log


# -- our side could not do it (exit code 3); only these are retried -----------------------------


class InfrastructureError(RunnerError):
    """Our own machinery failed; the agent is not to blame and the attempt may be retried."""


class EngineUnavailable(InfrastructureError):
    """No engine answers, or this user may not talk to it."""


class EngineFailed(InfrastructureError):
    """The engine answered a call with an error of its own, or missed our deadline.

    `status` is the HTTP status of its answer; 0 when there was none.
    """

    def __init__(self, message: str, *, remedy: str = "", status: int = 0) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status

    @property
    def not_found(self) -> bool:
        """The container, image or volume named in the call does not exist."""
        return self.status == HTTPStatus.NOT_FOUND


class ImageGone(InfrastructureError):
    """The image of a run was removed under it; going on with the run makes it again."""


class NotSetUp(InfrastructureError):
    """Something that `agenttrace setup` makes is missing."""


class LimitNotApplied(InfrastructureError):
    """A setting read back from the live container is not the one asked for."""


class InsufficientResources(InfrastructureError):
    """This host has too little memory, CPU or disk for the limits asked."""


class StorageFailed(InfrastructureError):
    """Evidence could not be written: disk full, no permission."""


class PushFailed(InfrastructureError):
    """A receiver of traces could not be reached, or refused them."""


class StoreUnavailable(InfrastructureError):
    """The database does not answer, or is locked, for longer than we wait."""


class SpendingLimitReached(InfrastructureError):
    """The budget of the whole run is spent; what was not judged yet can be gone on with."""

    exit_code = 4


class LeaseLost(InfrastructureError):
    """Another worker has this job now: what this one did since does not count."""


class Postponed(InfrastructureError):
    """A circuit breaker is open: the work waits, and has not failed.

    `until` is when to try again, an aware datetime.
    """

    def __init__(self, message: str, *, remedy: str = "", until: datetime) -> None:
        super().__init__(message, remedy=remedy)
        self.until = until


# -- neither ------------------------------------------------------------------------------------


class Interrupted(RunnerError):
    """The user stopped the run; what had finished is kept.

    `execution` is the unfinished BenchmarkExecution and `path` its run directory; None where the
    run had not begun.
    """

    exit_code = 130

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        execution: object | None = None,
        path: Path | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.execution = execution
        self.path = path


class ProtocolViolation(Exception):
    """Bytes on the shim's channel that no honest shim would send.

    An expected ending, not a `RunnerError`: the evaluation turns it into a
    `security_violation` of the attempt.
    """
