"""Sources merged once into one frozen Settings, which remembers who said what.

A flag wins over the environment, that over the project's file, the user's, the profile's, and
`config/default.toml`, which holds every default: this module has none. The merge is our own, since
every error has to name its source and key, and `config show` the origin of each value.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from runner.assets import asset
from runner.domain import Limits
from runner.domain.base import Noun
from runner.errors import InvalidConfiguration

PROJECT_FILE = "agenttrace.toml"
PREFIX = "AGENTTRACE_"
NOT_SETTINGS = frozenset({"AGENTTRACE_DEBUG", "AGENTTRACE_GATEWAY_URL"})
"""Variables with our prefix that are read elsewhere."""

Bytes = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


class EngineSettings(Noun):
    """Which Docker engine, and how long it may take."""

    host: str
    """Its address; empty: locate it as docker's own client does."""
    runtime: str
    """OCI runtime of the containers; empty: the engine's default."""
    call_seconds: Seconds


class SandboxSettings(Noun):
    """How an attempt is isolated."""

    agent_uid: int = Field(gt=0, lt=2**31)
    agent_gid: int = Field(gt=0, lt=2**31)
    seccomp: str
    """`default`, or the path of a profile."""
    apparmor: str
    """Name of a profile; empty: the engine's default."""
    cpu_mode: Literal["quota", "cpuset"]
    tmpfs_exec: bool
    require: tuple[str, ...]
    """Names of the guarantees that `doctor` must find kept."""
    output_policy: Literal["truncate", "fail"]


class BuildSettings(Noun):
    """What building one submission's image may use."""

    memory_bytes: Bytes
    cpus: float = Field(gt=0)
    seconds: Seconds
    network: Literal["none", "bridge"]
    image_bytes: Bytes
    context_bytes: Bytes
    context_files: int = Field(gt=0)
    allowed_bases: tuple[str, ...]
    """Shell patterns of image references; empty: any."""


class RunSettings(Noun):
    """What is run, how often, and how much of it at once."""

    suite: str = Field(min_length=1)
    parallelism: int = Field(ge=1)
    repeats: int = Field(ge=1)
    retries: int = Field(ge=0)
    retry_delays: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1)
    """Seconds before the first attempt, the first retry, ...; the last one repeats."""
    max_memory_fraction: float = Field(gt=0, le=1)
    """Share of the host's memory that attempts may claim together."""
    cpu_overcommit: float = Field(gt=0)
    """Cores that attempts may claim together, as a multiple of those there are."""
    min_free_disk_bytes: int = Field(ge=0)
    max_tokens: int = Field(ge=0)
    """Of all model calls of a run together; 0: no budget."""
    max_cost_usd: float = Field(ge=0)
    """The same."""
    reuse: bool
    """Take the result of an earlier run where nothing that matters differs."""


class StorageSettings(Noun):
    """Where things are kept."""

    runs_dir: Path
    state_dir: str
    """Empty: the user's XDG state directory; see `state_directory`."""
    database_url: SecretStr
    """Empty: a SQLite file in the state directory. May hold a password."""
    database_patience_seconds: Seconds
    key_file: str
    """Empty: in the state directory."""


class ImagesSettings(Noun):
    """What submissions' images are made from."""

    base_reference: str = Field(min_length=1)
    pull_seconds: Seconds


class SubmissionsSettings(Noun):
    """What is accepted into the queue."""

    max_bytes: Bytes
    max_files: int = Field(gt=0)
    organizations: tuple[str, ...]
    """Empty: any."""
    quota_per_day: int = Field(ge=0)
    quota_per_week: int = Field(ge=0)


class QueueSettings(Noun):
    """How queued submissions are worked off."""

    workers: int = Field(ge=1)
    """Jobs at once in one worker process."""
    poll_seconds: Seconds
    lease_seconds: Seconds
    max_losses: int = Field(ge=1)


class RemoteSettings(Noun):
    """Agents behind a URL."""

    allow_addresses: tuple[str, ...]
    """CIDR networks beyond the public ones that may be connected to."""
    allow_plain_http: bool
    credential_variables: tuple[str, ...]
    """Shell patterns of the environment variables that a manifest may name."""
    ca_file: str
    """Empty: the public certificate authorities."""
    connect_seconds: Seconds
    retries: int = Field(ge=0)
    max_wait_seconds: float = Field(ge=0)


class BreakerSettings(Noun):
    """When circuit breakers open and close."""

    failures: int = Field(ge=1)
    successes: int = Field(ge=1)
    open_seconds: Seconds


class PriceSettings(Noun):
    """What a model costs, where the price table does not know or is wrong."""

    input_usd_per_million: float = Field(ge=0)
    """Of input tokens."""
    output_usd_per_million: float = Field(ge=0)


class UpstreamSettings(Noun):
    """One provider of models."""

    api: Literal["openai", "anthropic"]
    """Which API it speaks."""
    base_url: str = Field(pattern=r"^https?://[^\s?#]+$")
    """As that API's own SDK takes it."""
    key_env: str = ""
    """Variable that holds its key, on this host; empty: it takes none."""
    provider: str = ""
    """Its name in the price table; empty: the upstream's own name."""
    prices: dict[str, PriceSettings] = Field(default_factory=dict)
    """By model; they win over the price table."""


class GatewaySettings(Noun):
    """What a sandboxed agent reaches: models and tools."""

    enabled: bool
    models: tuple[str, ...]
    """Shell patterns of UPSTREAM/MODEL."""
    upstreams: dict[str, UpstreamSettings]
    script: str
    """Rules of `agenttrace/scripted`; empty: those that are shipped."""
    token_margin: float = Field(ge=1)
    retries: int = Field(ge=0)
    max_wait_seconds: float = Field(ge=0)
    excuse_waits: bool
    connect_seconds: Seconds
    idle_seconds: Seconds
    call_seconds: Seconds
    request_bytes: Bytes
    response_bytes: Bytes
    connections: int = Field(ge=1, le=1024)
    record: bool
    record_bytes: Bytes
    trace_messages: bool
    cache_models: bool
    cache_tools: bool


class RetentionSettings(Noun):
    """What `cleanup` removes."""

    cache_bytes: int = Field(ge=0)
    """Of answers of models and tools, each."""
    runs_days: float = Field(ge=0)
    """0: nothing."""
    image_bytes: Bytes


class LogSettings(Noun):
    """What goes to stderr."""

    level: Literal["debug", "info", "warning", "error"]
    format: Literal["auto", "text", "json"]


class Settings(Noun):
    """All that can be configured; one section per field."""

    profile: str
    engine: EngineSettings
    limits: Limits
    sandbox: SandboxSettings
    build: BuildSettings
    run: RunSettings
    storage: StorageSettings
    images: ImagesSettings
    submissions: SubmissionsSettings
    queue: QueueSettings
    remote: RemoteSettings
    breaker: BreakerSettings
    gateway: GatewaySettings
    retention: RetentionSettings
    log: LogSettings


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Settings, and for each of them by dotted name who said so.

    An origin is `flag`, `env NAME`, the path of a file, `profile NAME` or `default`.
    """

    settings: Settings
    origins: Mapping[str, str]


def load_settings(
    flags: Mapping[str, object],
    *,
    cwd: Path,
    environ: Mapping[str, str],
    profile: str | None = None,
) -> Loaded:
    """The settings that hold in `cwd` for this user.

    `flags` maps dotted names (`run.parallelism`) to values; None means not given. Raises
    InvalidConfiguration naming the source, the key and the fix.
    """
    chosen = [
        *_file_layer(user_file(environ)),
        *_file_layer(cwd / PROJECT_FILE),
        *_environment_layer(environ),
        *_flag_layer(flags if profile is None else {**flags, "profile": profile}),
    ]
    defaults = [*_toml_layer(_defaults(), "default")]
    return _merge([*defaults, *_profile_layer(_last(defaults + chosen, "profile")), *chosen])


def setting_names() -> tuple[str, ...]:
    """Every setting by its dotted name, in the order of `default.toml`."""
    return tuple(_FIELDS)


def shown_settings(settings: Settings) -> dict[str, str]:
    """Every setting by dotted name, as a person writes it; secrets are redacted."""
    return {name: _shown(_value_of(settings, name)) for name in _FIELDS}


def user_file(environ: Mapping[str, str]) -> Path | None:
    """Where this user's settings are read from; None without a home directory."""
    if home := environ.get("XDG_CONFIG_HOME"):
        return Path(home) / "agenttrace/config.toml"
    if home := environ.get("HOME"):
        return Path(home) / ".config/agenttrace/config.toml"
    return None


def settings_as_data(settings: Settings) -> dict[str, Any]:
    """Every setting by dotted name, as JSON has it; secrets are redacted."""
    document = settings.model_dump(mode="json")
    return {
        name: document[section][key] if section else document[key]
        for name in _FIELDS
        for section, _, key in [name.rpartition(".")]
    }


def unknown_setting(
    name: str, *, source: str, spell: Callable[[str], str] = str
) -> InvalidConfiguration:
    """The error for a name that is no setting; `spell` writes a setting as `source` would."""
    return InvalidConfiguration(
        f"{source}: there is no setting {name!r}",
        remedy=_did_you_mean(name, _FIELDS, spell) + _where_described(),
    )


def state_directory(settings: Settings, environ: Mapping[str, str]) -> Path:
    """Where the runner remembers things between runs."""
    if settings.storage.state_dir:
        return Path(settings.storage.state_dir).expanduser()
    if home := environ.get("XDG_STATE_HOME"):
        return Path(home) / "agenttrace"
    return Path(environ.get("HOME") or Path.home()) / ".local/state/agenttrace"


# -- sizes and durations as people write them ---------------------------------------------------

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)(b?)\s*", re.IGNORECASE)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", re.IGNORECASE)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(value: object) -> int:
    """Bytes: from a whole number, `512MiB`, `64M` (binary, as docker reads it), `100KB` (decimal).

    Raises ValueError.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a size; write one such as 512MiB, 64M, 100KB or 536870912")
    number, letter, binary, byte = match.groups()
    base = 1000 if byte and not binary else 1024
    power: int = " kmgt".index(letter.lower() or " ")
    return round(Decimal(number) * Decimal(base) ** power)


def parse_duration(value: object) -> float:
    """Seconds: from a number, `300s`, `5m`, `1h30m`, `500ms`. Raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        text = "".join(value.split())
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)
        parts = _DURATION_PART.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            return sum(float(number) * _SECONDS[unit.lower()] for number, unit in parts)
    raise ValueError("not a duration; write one such as 300s, 5m, 1h30m, 500ms or 300")


def _parse_durations(value: object) -> list[float]:
    if not isinstance(value, list | tuple):
        raise ValueError("not a list of durations; write one such as [0, 2, 4]")  # noqa: TRY004 - one kind of error for all readers
    return [parse_duration(item) for item in value]


# -- one layer per source -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Given:
    """One value that a source gives to one setting."""

    name: str
    value: object
    origin: str
    """As `config show --origin` prints it."""
    source: str
    """As an error names it: the file's path, the variable."""


def _fields_of(model: type[Noun]) -> dict[str, FieldInfo]:
    names: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Noun):
            names |= {f"{name}.{inner}": f for inner, f in section.model_fields.items()}
        else:
            names[name] = field
    return names


_FIELDS = _fields_of(Settings)

_READERS: tuple[tuple[str, Callable[[object], object]], ...] = (
    ("bytes", parse_size),
    ("seconds", parse_duration),
    ("delays", _parse_durations),
)
"""The last word of a setting's name is its unit."""


def _file_layer(path: Path | None) -> Iterator[_Given]:
    """What a file says; a file that does not exist says nothing."""
    if path is not None and path.exists():
        yield from _toml_layer(path, str(path))


def _profile_layer(chosen: _Given) -> Iterator[_Given]:
    known = sorted(path.stem for path in asset("config/profiles").glob("*.toml"))
    if chosen.value not in known:
        raise InvalidConfiguration(
            f"{chosen.source}: there is no profile {chosen.value!r}",
            remedy=f"{_did_you_mean(str(chosen.value), known)}profiles: {', '.join(known)}",
        )
    path = asset(f"config/profiles/{chosen.value}.toml")
    yield from _toml_layer(path, f"profile {chosen.value}")


def _toml_layer(path: Path, origin: str) -> Iterator[_Given]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(
            f"{path}: not valid TOML: {error}", remedy="correct that line"
        ) from error
    except OSError as error:
        raise InvalidConfiguration(
            f"{path}: cannot be read: {error.strerror}", remedy="make it readable or remove it"
        ) from error
    for name, value in _flattened(document):
        yield _Given(
            name=_known(name, source=str(path)), value=value, origin=origin, source=str(path)
        )


def _flattened(document: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Dotted names and values; an empty section counts, so that a misspelt one is found."""
    for name, value in document.items():
        if not isinstance(value, dict):
            yield name, value
        elif not value and name in Settings.model_fields:
            continue
        elif not value:
            yield name, value
        else:
            yield from ((f"{name}.{inner}", item) for inner, item in value.items())


def _environment_layer(environ: Mapping[str, str]) -> Iterator[_Given]:
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
            continue
        source = f"environment variable {variable}"
        name = variable.removeprefix(PREFIX).lower().replace("__", ".")
        name = _known(name, source=source, spell=environment_name)
        yield _Given(
            name=name, value=_from_text(name, text), origin=f"env {variable}", source=source
        )


def environment_name(name: str) -> str:
    """The variable that sets `name`."""
    return PREFIX + name.upper().replace(".", "__")


def _flag_layer(flags: Mapping[str, object]) -> Iterator[_Given]:
    for name, value in flags.items():
        if value is not None:
            source = f"flag for {name}"
            yield _Given(
                name=_known(name, source=source), value=value, origin="flag", source=source
            )


def _from_text(name: str, text: str) -> object:
    """A variable's text as the type asked for: lists are JSON, or words between commas; tables are
    JSON.
    """
    kind = get_origin(_FIELDS[name].annotation)
    if kind not in {tuple, dict}:
        return text
    if text.lstrip().startswith(("[", "{")):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    return [word.strip() for word in text.split(",") if word.strip()]


def _defaults() -> Path:
    return asset("config/default.toml")


def _where_described() -> str:
    return f"every setting is described in {_defaults()}"


def _last(layers: Iterable[_Given], name: str) -> _Given:
    return [given for given in layers if given.name == name][-1]


# -- the merge ----------------------------------------------------------------------------------


def _merge(layers: Iterable[_Given]) -> Loaded:
    given = {one.name: one for one in layers}
    document: dict[str, Any] = {}
    for name, one in given.items():
        section, _, key = name.rpartition(".")
        target = document.setdefault(section, {}) if section else document
        target[key] = _read_units(one)
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        raise _invalid(given, error) from error
    return Loaded(settings=settings, origins={name: given[name].origin for name in _FIELDS})


def _read_units(given: _Given) -> object:
    """The value in the unit that the setting's name ends with."""
    for unit, read in _READERS:
        if given.name.endswith(("_" + unit, "." + unit)):
            try:
                return read(given.value)
            except ValueError as error:
                raise _bad_value(given, str(error)) from error
    return given.value


def _invalid(given: Mapping[str, _Given], error: ValidationError) -> InvalidConfiguration:
    """The first thing wrong: one line is read, ten are not."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"][:2])
    name = name if name in _FIELDS else str(first["loc"][0])
    if name not in given:
        return InvalidConfiguration(
            f"{_defaults()}: {name} is missing", remedy="reinstall agenttrace-runner"
        )
    return _bad_value(given[name], first["msg"][:1].lower() + first["msg"][1:])


def _bad_value(given: _Given, reason: str) -> InvalidConfiguration:
    secret = _FIELDS[given.name].annotation is SecretStr
    value = "(not shown)" if secret else repr(given.value)[:80]
    what, _, fix = reason.partition("; ")
    return InvalidConfiguration(
        f"{given.source}: {given.name} = {value}: {what}",
        remedy=fix or f"correct it, or remove it for the default; {_where_described()}",
    )


def _known(name: str, *, source: str, spell: Callable[[str], str] = str) -> str:
    """`name`, if it is a setting; else the error that says which one may have been meant."""
    if name in _FIELDS:
        return name
    raise unknown_setting(name, source=source, spell=spell)


def _did_you_mean(name: str, known: Iterable[str], spell: Callable[[str], str] = str) -> str:
    """A question naming the nearest of `known`, or one in another section; else nothing."""
    names = list(known)
    nearest = difflib.get_close_matches(name, names, n=1)
    elsewhere = [one for one in names if one.rpartition(".")[2] == name.rpartition(".")[2]]
    candidates = elsewhere[:1] or nearest
    return f"did you mean {spell(candidates[0])}? " if candidates else ""


# -- for people ---------------------------------------------------------------------------------


def _value_of(settings: Settings, name: str) -> object:
    value: object = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _shown(value: object) -> str:  # noqa: PLR0911 - one return for each type
    match value:
        case SecretStr():
            return str(value)
        case bool():
            return str(value).lower()
        case Noun():
            return _shown({name: getattr(value, name) for name in value.model_fields_set})
        case dict():
            shown = (f"{name} = {_shown(item)}" for name, item in value.items())
            return "{" + ", ".join(shown) + "}"
        case tuple():
            return "[" + ", ".join(_shown(item) for item in value) + "]"
        case float():
            return f"{value:g}"
        case str() | Path():
            return json.dumps(str(value), ensure_ascii=True)
        case _:
            return str(value)
