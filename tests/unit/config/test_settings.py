"""The merge: which source wins, who is named as the origin, and what a mistake says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from runner import config
from runner.assets import asset
from runner.config import (
    Loaded,
    environment_name,
    load_settings,
    parse_duration,
    parse_size,
    setting_names,
    settings_as_data,
    shown_settings,
    state_directory,
)
from runner.domain import MIB, Limits
from runner.errors import InvalidConfiguration

REPOSITORY = Path(__file__).parents[3]


class Places:
    """A project directory and a home, in which files may be written."""

    def __init__(self, top: Path) -> None:
        self.project = top / "project"
        self.home = top / "home"
        self.project.mkdir()
        self.home.mkdir()

    def write_project(self, text: str) -> Path:
        path = self.project / "agenttrace.toml"
        path.write_text(text)
        return path

    def write_user(self, text: str) -> Path:
        path = self.home / ".config/agenttrace/config.toml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        return path

    def load(
        self,
        flags: dict[str, object] | None = None,
        profile: str | None = None,
        **environ: str,
    ) -> Loaded:
        return load_settings(
            flags or {},
            cwd=self.project,
            environ={"HOME": str(self.home), **environ},
            profile=profile,
        )

    def refusal(self, **environ: str) -> InvalidConfiguration:
        with pytest.raises(InvalidConfiguration) as caught:
            self.load(**environ)
        assert "\n" not in str(caught.value)
        return caught.value


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


# -- precedence and origins ----------------------------------------------------------------------


def test_each_source_wins_over_those_below_it(places: Places) -> None:
    def pids_and_origin(**given: object) -> tuple[int, str]:
        flags = {"limits.pids": given.pop("flag", None)}
        loaded = places.load(flags, **given)  # type: ignore[arg-type]
        return loaded.settings.limits.pids, loaded.origins["limits.pids"]

    assert pids_and_origin() == (256, "default")
    user = places.write_user("limits.pids = 20")
    assert pids_and_origin() == (20, str(user))
    project = places.write_project("[limits]\npids = 30")
    assert pids_and_origin() == (30, str(project))
    assert pids_and_origin(AGENTTRACE_LIMITS__PIDS="40") == (40, "env AGENTTRACE_LIMITS__PIDS")
    assert pids_and_origin(AGENTTRACE_LIMITS__PIDS="40", flag=50) == (50, "flag")


def test_a_profile_is_above_the_defaults_and_below_the_files(places: Places) -> None:
    competition = places.load(profile="competition")
    assert competition.settings.sandbox.cpu_mode == "cpuset"
    assert competition.origins["sandbox.cpu_mode"] == "profile competition"
    places.write_user("sandbox.cpu_mode = 'quota'")
    assert places.load(profile="competition").settings.sandbox.cpu_mode == "quota"


def test_a_profile_is_chosen_by_flag_then_environment_then_files(places: Places) -> None:
    assert places.load().settings.profile == "laptop"
    places.write_user("profile = 'shared-host'")
    assert places.load().settings.engine.call_seconds == 120
    by_environment = places.load(AGENTTRACE_PROFILE="competition")
    assert by_environment.settings.run.parallelism == 1
    assert by_environment.origins["profile"] == "env AGENTTRACE_PROFILE"
    by_flag = places.load(profile="laptop", AGENTTRACE_PROFILE="competition")
    assert by_flag.settings.run.parallelism == 3
    assert by_flag.origins["profile"] == "flag"


def test_flags_that_were_not_given_change_nothing(places: Places) -> None:
    assert places.load({"run.suite": None}).settings == places.load().settings


def test_xdg_config_home_moves_the_users_file(places: Places, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "agenttrace").mkdir(parents=True)
    (elsewhere / "agenttrace/config.toml").write_text("run.retries = 7")
    places.write_user("run.retries = 1")
    assert places.load(XDG_CONFIG_HOME=str(elsewhere)).settings.run.retries == 7


def test_nothing_is_read_from_a_home_that_the_environment_does_not_name(tmp_path: Path) -> None:
    loaded = load_settings({}, cwd=tmp_path, environ={})
    assert {origin.split()[0] for origin in loaded.origins.values()} == {"default", "profile"}


def test_every_setting_has_an_origin(places: Places) -> None:
    assert tuple(places.load().origins) == setting_names()


# -- values as people write them -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (1_000_000, 1_000_000),
        ("1000000", 1_000_000),
        ("512MiB", 512 * MIB),
        ("512 mib", 512 * MIB),
        ("64M", 64 * MIB),
        ("64m", 64 * MIB),
        ("100KB", 100_000),
        ("1.5GiB", 1536 * MIB),
        ("2G", 2048 * MIB),
        ("1TB", 10**12),
        ("7B", 7),
    ],
)
def test_sizes(written: object, size: int) -> None:
    assert parse_size(written) == size


@pytest.mark.parametrize("written", ["", "MiB", "12XB", "-1", "1 2", "1e6", True, None, 1.5, "iB"])
def test_what_is_no_size(written: object) -> None:
    with pytest.raises(ValueError, match="512MiB"):
        parse_size(written)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (300, 300),
        (0.5, 0.5),
        ("300", 300),
        ("300s", 300),
        ("5m", 300),
        ("500ms", 0.5),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2d", 172_800),
    ],
)
def test_durations(written: object, seconds: float) -> None:
    assert parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize("written", ["", "soon", "5 x", "m5", "-3s", "5m!", True, None])
def test_what_is_no_duration(written: object) -> None:
    with pytest.raises(ValueError, match="5m"):
        parse_duration(written)


def test_units_are_read_from_every_source(places: Places) -> None:
    places.write_project("limits.memory_bytes = '1GiB'\nlimits.time_seconds = '2m'")
    flags: dict[str, object] = {"limits.disk_bytes": "8M"}
    limits = places.load(flags, AGENTTRACE_LIMITS__SHM_BYTES="16MiB").settings.limits
    assert (limits.memory_bytes, limits.time_seconds) == (1024 * MIB, 120)
    assert (limits.disk_bytes, limits.shm_bytes) == (8 * MIB, 16 * MIB)


def test_lists_in_the_environment_are_words_or_json(places: Places) -> None:
    words = places.load(AGENTTRACE_BUILD__ALLOWED_BASES="python:3.*, debian:12")
    assert words.settings.build.allowed_bases == ("python:3.*", "debian:12")
    as_json = places.load(AGENTTRACE_BUILD__ALLOWED_BASES='["a,b"]')
    assert as_json.settings.build.allowed_bases == ("a,b",)
    assert places.load(AGENTTRACE_BUILD__ALLOWED_BASES="").settings.build.allowed_bases == ()
    delays = places.load(AGENTTRACE_RUN__RETRY_DELAYS="0,500ms,1m")
    assert delays.settings.run.retry_delays == (0, 0.5, 60)


def test_switches_in_the_environment(places: Places) -> None:
    assert not places.load(AGENTTRACE_SANDBOX__TMPFS_EXEC="false").settings.sandbox.tmpfs_exec


def test_variables_that_are_read_elsewhere_are_left_alone(places: Places) -> None:
    loaded = places.load(AGENTTRACE_DEBUG="1", AGENTTRACE_GATEWAY_URL="http://x", AGENT="y")
    assert loaded.settings == places.load().settings


# -- mistakes ------------------------------------------------------------------------------------


def test_an_unknown_key_names_the_file_and_what_may_have_been_meant(places: Places) -> None:
    path = places.write_project("[limits]\nmemory_byte = 5")
    error = places.refusal()
    assert str(path) in error.message
    assert "limits.memory_byte" in error.message
    assert "did you mean limits.memory_bytes?" in error.remedy
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[limit]\npids = 5", "limits.pids"),
        ("[limit]", ""),
        ("parallelism = 2", "run.parallelism"),
        ("[sandbox]\nparallelism = 2", "run.parallelism"),
        ("[limits.memory]\nbytes = 2", ""),
        ("limits = 3", ""),
    ],
)
def test_misplaced_and_misspelt_settings(places: Places, text: str, hint: str) -> None:
    path = places.write_project(text)
    error = places.refusal()
    assert error.message.startswith(f"{path}: there is no setting")
    assert hint in error.remedy


def test_an_unknown_variable_is_answered_with_a_variable(places: Places) -> None:
    error = places.refusal(AGENTTRACE_LIMITS__MEMORY="1G")
    assert "AGENTTRACE_LIMITS__MEMORY:" in error.message
    assert "AGENTTRACE_LIMITS__MEMORY_BYTES?" in error.remedy


def test_an_unknown_profile_lists_those_there_are(places: Places) -> None:
    error = places.refusal(AGENTTRACE_PROFILE="competiton")
    assert "AGENTTRACE_PROFILE" in error.message
    assert "did you mean competition?" in error.remedy
    assert "laptop" in error.remedy
    assert "shared-host" in error.remedy


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("limits.memory_bytes = 'lots'", "limits.memory_bytes = 'lots'", "not a size"),
        ("limits.memory_bytes = -5", "limits.memory_bytes = -5", "greater than 0"),
        ("limits.time_seconds = 'soon'", "limits.time_seconds = 'soon'", "not a duration"),
        ("limits.pids = 'x'", "limits.pids = 'x'", "valid integer"),
        ("limits.cpus = 0", "limits.cpus = 0", "greater than 0"),
        ("sandbox.cpu_mode = 'fast'", "sandbox.cpu_mode = 'fast'", "'quota' or 'cpuset'"),
        ("sandbox.agent_uid = 0", "sandbox.agent_uid = 0", "greater than 0"),
        ("run.retry_delays = [0, 'x']", "run.retry_delays = [0, 'x']", "not a duration"),
        ("run.retry_delays = 2", "run.retry_delays = 2", "not a list"),
        ("run.retry_delays = [-1]", "run.retry_delays = [-1]", "greater than or equal"),
        ("build.allowed_bases = 'any'", "build.allowed_bases = 'any'", "valid tuple"),
        ("run.max_memory_fraction = 80", "run.max_memory_fraction = 80", "less than or equal"),
    ],
)
def test_bad_values_name_file_key_and_reason(
    places: Places, text: str, key: str, reason: str
) -> None:
    path = places.write_project(text)
    error = places.refusal()
    assert error.message.startswith(f"{path}: {key}: ")
    assert reason in error.message
    assert error.remedy


def test_a_bad_value_names_the_source_that_won(places: Places) -> None:
    places.write_project("limits.pids = 'x'")
    assert "AGENTTRACE_LIMITS__PIDS" in places.refusal(AGENTTRACE_LIMITS__PIDS="y").message


def test_malformed_toml_names_the_line(places: Places) -> None:
    path = places.write_user("[limits\n")
    error = places.refusal()
    assert error.message.startswith(f"{path}: not valid TOML")
    assert "line 1" in error.message


def test_a_file_that_is_not_text(places: Places) -> None:
    path = places.write_project("")
    path.write_bytes(b"\xff\xfe")
    assert str(path) in places.refusal().message


def test_a_directory_in_place_of_a_file(places: Places) -> None:
    (places.project / "agenttrace.toml").mkdir()
    assert "cannot be read" in places.refusal().message


def test_hostile_text_in_a_value_is_shown_inert(places: Places) -> None:
    places.write_project('limits.pids = "\\u001b[2J"')
    assert "\x1b" not in places.refusal().message


def test_an_unknown_flag_is_our_own_mistake_and_is_found(places: Places) -> None:
    with pytest.raises(InvalidConfiguration, match=re.escape("run.suit")):
        places.load({"run.suit": "x"})


# -- the values themselves -----------------------------------------------------------------------


def test_settings_are_frozen(places: Places) -> None:
    settings = places.load().settings
    with pytest.raises(ValidationError, match="frozen"):
        settings.run.suite = "other"


def test_secrets_are_not_shown() -> None:
    assert "hunter2" not in config._shown(SecretStr("hunter2"))


def test_shown_values_and_data_cover_every_setting(places: Places) -> None:
    settings = places.load().settings
    assert tuple(shown_settings(settings)) == setting_names()
    data = settings_as_data(settings)
    assert tuple(data) == setting_names()
    assert data["limits.memory_bytes"] == 512 * MIB
    assert shown_settings(settings)["run.retry_delays"] == "[0, 2, 4]"
    assert shown_settings(settings)["sandbox.tmpfs_exec"] == "true"


def test_the_state_directory(places: Places) -> None:
    settings = places.load().settings
    assert state_directory(settings, {"HOME": "/h"}) == Path("/h/.local/state/agenttrace")
    assert state_directory(settings, {"XDG_STATE_HOME": "/s"}) == Path("/s/agenttrace")
    moved = places.load(AGENTTRACE_STORAGE__STATE_DIR="/var/lib/x").settings
    assert state_directory(moved, {"HOME": "/h"}) == Path("/var/lib/x")


# -- the files that ship -------------------------------------------------------------------------


def test_the_defaults_name_every_setting_once_with_a_comment() -> None:
    lines = asset("config/default.toml").read_text().splitlines()
    section, described = "", []
    for before, line in zip(["", *lines], lines, strict=False):
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = f"{header[1]}."
        elif key := re.match(r"(\w+) = ", line):
            assert before.startswith("# "), f"{section}{key[1]} has no comment"
            described.append(section + key[1])
    assert described == list(setting_names())


def test_the_default_limits_are_those_of_the_domain(places: Places) -> None:
    assert places.load().settings.limits == Limits()


def profile_names() -> list[str]:
    return sorted(path.stem for path in asset("config/profiles").glob("*.toml"))


def test_the_profiles_that_there_are() -> None:
    assert profile_names() == ["competition", "laptop", "shared-host"]


@pytest.mark.parametrize("name", profile_names())
def test_each_profile_is_valid_and_differs_from_the_defaults(places: Places, name: str) -> None:
    loaded = places.load(profile=name)
    given = [one for one, origin in loaded.origins.items() if origin == f"profile {name}"]
    assert given
    defaults = tomllib.loads(asset("config/default.toml").read_text())
    profile = tomllib.loads(asset(f"config/profiles/{name}.toml").read_text())
    assert any(profile[part] != defaults[part] for part in profile)


def test_stricter_profiles_require_all_that_the_laptop_does(places: Places) -> None:
    required = {
        name: places.load(profile=name).settings.sandbox.require for name in profile_names()
    }
    assert set(required["laptop"]) < set(required["shared-host"]) < set(required["competition"])


def test_nothing_of_a_profile_opens_the_network(places: Places) -> None:
    for name in profile_names():
        assert places.load(profile=name).settings.build.network == "none"


def test_the_documentation_has_every_setting_with_its_default() -> None:
    rows = re.findall(
        r"^\| `([\w.]+)` \| `(.*?)` \| (.+) \|$",
        (REPOSITORY / "docs/configuration.md").read_text(),
        re.MULTILINE,
    )
    documented = {name: tomllib.loads(f"value = {value}")["value"] for name, value, _ in rows}
    defaults = tomllib.loads(asset("config/default.toml").read_text())
    expected = {
        name: defaults[section][key] if section else defaults[key]
        for name in setting_names()
        for section, _, key in [name.rpartition(".")]
    }
    assert documented == expected


def test_a_variable_for_every_setting(places: Places) -> None:
    for name in setting_names():
        if name == "profile":
            continue
        text = str(settings_as_data(places.load().settings)[name]).replace("'", '"')
        loaded = places.load(**{environment_name(name): text})
        assert loaded.origins[name] == f"env {environment_name(name)}"
