"""What all tests share: a run that was to drive an engine fails if it did not."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# Machines are noisy, and the first text of a fresh clone takes seconds to make tables for.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")

ENGINE_MARKERS = ("docker", "adversarial")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-engine",
        action="store_true",
        help="fail unless engine tests ran, and none of them was skipped",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--require-engine"):
        config.pluginmanager.register(EngineRequired(), "engine-required")


class EngineRequired:
    """Counts the tests that drive a real engine; a green run without them proves nothing."""

    def __init__(self) -> None:
        self.ran: set[str] = set()
        self.skipped: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not any(marker in report.keywords for marker in ENGINE_MARKERS):
            return
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.add(report.nodeid)
        elif report.when == "call":
            self.ran.add(report.nodeid)

    @property
    def complaint(self) -> str:
        if self.skipped:
            return f"{len(self.skipped)} engine tests were skipped, first {min(self.skipped)}"
        if not self.ran:
            return "no test that drives a real engine ran"
        return ""

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.complaint and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("engine tests")
        terminalreporter.line(self.complaint or f"{len(self.ran)} ran", red=bool(self.complaint))


@pytest.fixture
def no_agenttrace_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the whole command line: nobody's own settings get in."""
    for name in list(os.environ):
        if name.startswith("AGENTTRACE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nonexistent")
