"""What the checks of a submission found."""

from __future__ import annotations

from enum import StrEnum

from runner.domain.base import Noun


class CheckName(StrEnum):
    """The eleven checks, in the order in which they are shown."""

    REQUIRED_FIELDS = "required_fields"
    TERMS_ACCEPTED = "terms_accepted"
    EMAIL_VALID = "email_valid"
    ENDPOINT_TYPE = "endpoint_type"
    AUTHENTICATION = "authentication"
    CATEGORIES_VALID = "categories_valid"
    CONFIG_VALID = "config_valid"
    VERSION_FORMAT = "version_format"
    ORGANIZATION = "organization"
    QUOTA_AVAILABLE = "quota_available"
    ENDPOINT_REACHABLE = "endpoint_reachable"

    @property
    def rejects(self) -> bool:
        """Whether a submission that fails it is refused; else its submitter is warned."""
        return self not in (
            CheckName.CONFIG_VALID,
            CheckName.VERSION_FORMAT,
            CheckName.ORGANIZATION,
        )


class CheckOutcome(Noun):
    """What one check found; `message` and `remedy` are one line each, of inert text."""

    name: CheckName
    passed: bool
    message: str = ""
    """What was found: also said of a check that passed."""
    remedy: str = ""
    """What the submitter does next; empty when it passed."""


class ValidationResult(Noun):
    """Every check's outcome: none stops at the first error."""

    outcomes: tuple[CheckOutcome, ...]

    @property
    def is_valid(self) -> bool:
        """Whether no rejecting check failed."""
        return not self.errors

    @property
    def errors(self) -> list[str]:
        """Why it is refused, one line each."""
        return [_line(o) for o in self.outcomes if not o.passed and o.name.rejects]

    @property
    def warnings(self) -> list[str]:
        """What is not as it should be, and not refused, one line each."""
        return [_line(o) for o in self.outcomes if not o.passed and not o.name.rejects]

    @property
    def checks_performed(self) -> list[str]:
        """The names of the checks that ran."""
        return [outcome.name.value for outcome in self.outcomes]


def _line(outcome: CheckOutcome) -> str:
    remedy = f" ({outcome.remedy})" if outcome.remedy else ""
    return f"{outcome.name.value}: {outcome.message}{remedy}"
