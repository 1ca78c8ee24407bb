"""docs/threat-model.md says what each folder proves, in the folder's own words."""

from __future__ import annotations

from pathlib import Path

from tests.adversarial.expectation import HERE, load_all

DOCUMENT = Path(__file__).parents[2] / "docs/threat-model.md"
FIRST_FIFTEEN = (
    "memory child_out_of_memory fork_bomb cpu_spin sleep ignored_sigterm daemon log_flood"
    " endless_line forged_frame killed_shim ptrace_shim canary_search network_reach artifacts"
)


def test_every_folder_is_documented() -> None:
    text = DOCUMENT.read_text()
    for one in load_all():
        assert f"| `{one.name}` |" in text
        assert one.proves in text


def test_every_folder_is_expected_to_end_somehow() -> None:
    folders = {path.name for path in HERE.iterdir() if path.is_dir() and path.name[0] not in "._"}
    assert folders == {one.name for one in load_all()}
    assert set(FIRST_FIFTEEN.split()) <= folders


def test_nothing_hostile_may_buy_a_retry() -> None:
    for one in load_all():
        assert "internal_error" not in one.failure_reasons
        assert "agent_unreachable" not in one.failure_reasons
