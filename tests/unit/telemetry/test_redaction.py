"""What a log may show of a value: never a secret, whatever it is wrapped in."""

from __future__ import annotations

import json
from collections import deque, namedtuple
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, Secret, SecretBytes, SecretStr
from sqlalchemy import make_url

from runner.telemetry.redaction import (
    MOST_CHARACTERS,
    MOST_ITEMS,
    STARS,
    redacted,
    without_userinfo,
)

SECRET = "hunter2-hunter2"


class Model(BaseModel):
    part: Any = None


class Hidden(BaseModel):
    note: str = Field(default=SECRET, repr=False)
    shown: int = 1


@dataclass
class Data:
    part: Any = None
    unseen: str = field(default=SECRET, repr=False)


Named = namedtuple("Named", ["part"])

SECRETS = st.sampled_from(
    [
        SecretStr(SECRET),
        SecretBytes(SECRET.encode()),
        Secret[str](SECRET),
        f"postgresql://user:{SECRET}@db/x",
        f"https://{SECRET}@host/",
        {"Authorization": f"Bearer {SECRET}"},
        {b"X-API-Key": SECRET.encode()},
        [("Set-Cookie", SECRET)],
        [(b"proxy-authorization", SECRET.encode())],
        {"auth_token": [SECRET]},
    ]
)


def _wrapped(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    name = st.text(max_size=8)
    return st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(deque),
        st.dictionaries(name, inner, max_size=3),
        st.dictionaries(name, inner, max_size=3).map(MappingProxyType),
        inner.map(lambda part: Model(part=part)),
        inner.map(lambda part: Data(part=part)),
        inner.map(Named),
        inner.map(lambda part: {"parts": {1: part}, "list": [part, 1.5, None]}),
    )


WRAPPED_SECRETS = st.recursive(SECRETS, _wrapped, max_leaves=6)


@given(WRAPPED_SECRETS)
def test_no_structure_lets_a_secret_through(value: object) -> None:
    assert SECRET not in json.dumps(redacted(value))


def test_secrets_of_hashable_structures() -> None:
    values = [{SecretStr(SECRET)}, frozenset({SecretStr(SECRET)}), {SecretStr(SECRET): 1}]
    assert SECRET not in json.dumps([redacted(value) for value in values])


def test_what_is_no_secret_stays() -> None:
    value = {"n": 1, "f": 1.5, "t": True, "none": None, "list": ["a", (2,)], "m": Model(part="x")}
    shown = {"n": 1, "f": 1.5, "t": True, "none": None, "list": ["a", [2]], "m": {"part": "x"}}
    assert redacted(value) == shown


def test_a_token_that_is_a_number_counts_something() -> None:
    assert redacted({"token": 3, "TOKEN": "3"}) == {"token": 3, "TOKEN": STARS}


@pytest.mark.parametrize("name", ["AUTHORIZATION", "x-api-key", "Api_Key", "Cookie", "PASSWORD"])
def test_names_of_secrets_in_any_case(name: str) -> None:
    assert redacted({name: "x"}) == {name: STARS}


def test_what_a_type_hides_from_its_repr_stays_hidden() -> None:
    assert redacted(Hidden()) == {"shown": 1}
    assert redacted(Data(part=1)) == {"part": 1}


def test_a_database_url_object() -> None:
    assert SECRET not in str(redacted(make_url(f"postgresql://u:{SECRET}@db/x")))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgres://u:p@h:5/x", f"postgres://u:{STARS}@h:5/x"),
        ("postgres://u:p/w@h", f"postgres://u:{STARS}@h"),
        ("postgres://u:p@w@h", f"postgres://u:{STARS}@h"),
        ("postgres://me@x.org:p@h", f"postgres://{STARS}@h"),
        ("redis://:p@h", f"redis://:{STARS}@h"),
        ("see https://tok@h/ and a://u:p@h.", f"see https://{STARS}@h/ and a://u:{STARS}@h."),
        ("http://h:80/path", "http://h:80/path"),
        ("https://h/@name", "https://h/@name"),
        ("mail me@example.com", "mail me@example.com"),
    ],
)
def test_urls_lose_their_passwords(url: str, shown: str) -> None:
    assert without_userinfo(url) == shown


def test_a_long_text_is_cut_after_its_passwords_went() -> None:
    head = "x" * (MOST_CHARACTERS - 20)
    shown = redacted(f"{head} postgres://u:{SECRET}@h" + "y" * 100)
    assert isinstance(shown, str)
    assert "hunter" not in shown
    assert len(shown) <= MOST_CHARACTERS + 3


def test_size_and_depth_have_an_end() -> None:
    ring: list[object] = []
    ring.append(ring)
    assert "..." in json.dumps(redacted(ring))
    assert len(redacted(list(range(10_000)))) == MOST_ITEMS  # type: ignore[arg-type]
    assert redacted(float("nan")) == "nan"
