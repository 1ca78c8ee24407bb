"""Targets and manifests: every mistake is one line that names file, field and fix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain import BenchmarkCategory, BenchmarkSubmission
from runner.errors import InvalidSubmission
from runner.intake import check_source, image_submission, load_submission, read_submission
from runner.intake.manifest import MAX_MANIFEST_BYTES, parse_manifest

HEAD = 'agent_name = "echo"\nagent_version = "1.0.0"\n'
LOCAL = HEAD + (
    '[agent_endpoint]\nendpoint_type = "local"\nmodule_path = "agent"\nfunction_name = "answer"\n'
)
AGENT = "def answer(prompt, config):\n    return prompt\n"


def directory(tmp_path: Path, manifest: str | bytes | None, **files: str) -> Path:
    if manifest is not None:
        data = manifest.encode() if isinstance(manifest, str) else manifest
        (tmp_path / "submission.toml").write_bytes(data)
    for name, text in files.items():
        (tmp_path / name.replace("__", ".")).write_text(text)
    return tmp_path


def container(*lines: str) -> str:
    return HEAD + '[agent_endpoint]\nendpoint_type = "container"\n' + "\n".join(lines) + "\n"


def refusal(target: Path | str, **overrides: object) -> str:
    with pytest.raises(InvalidSubmission) as caught:
        load_submission(str(target), **overrides)  # type: ignore[arg-type]
    text = str(caught.value)
    assert text.isprintable()
    return text


def problem_of(data: bytes) -> str:
    try:
        parse_manifest(data, "submission.toml")
    except InvalidSubmission as error:
        return str(error)
    return ""


def test_a_local_directory(tmp_path: Path) -> None:
    manifest = LOCAL.replace("[agent", 'categories = ["reasoning"]\nterms_accepted = true\n[agent')
    loaded = load_submission(str(directory(tmp_path, manifest, agent__py=AGENT)))
    assert loaded.agent_name == "echo"
    assert loaded.categories == (BenchmarkCategory.REASONING,)
    assert loaded.terms_accepted
    assert loaded.agent_endpoint.source == tmp_path.resolve()
    assert loaded.agent_endpoint.interface is None


def test_the_manifest_itself_may_be_named(tmp_path: Path) -> None:
    directory(tmp_path, LOCAL, agent__py=AGENT)
    by_file = load_submission(str(tmp_path / "submission.toml"))
    assert by_file == load_submission(str(tmp_path))


def test_a_function_of_a_file(tmp_path: Path) -> None:
    directory(tmp_path, None, agent__py=AGENT)
    loaded = load_submission(f"{tmp_path}/agent.py:answer")
    assert (loaded.agent_name, loaded.agent_version) == ("agent", "0.0.0")
    assert loaded.agent_endpoint.module_path == "agent"
    assert loaded.agent_endpoint.function_name == "answer"


def test_a_container_is_stdio_unless_it_says_otherwise(tmp_path: Path) -> None:
    directory(tmp_path, container('dockerfile = "Dockerfile"'), Dockerfile="FROM scratch\n")
    assert load_submission(str(tmp_path)).agent_endpoint.interface == "stdio"


def test_overrides_replace_a_containers_manifest(tmp_path: Path) -> None:
    directory(tmp_path, container('image = "a/b:1"', 'command = ["x"]'))
    endpoint = load_submission(
        str(tmp_path), interface="http", command=["y", "z"], port=9000
    ).agent_endpoint
    assert (endpoint.interface, endpoint.command, endpoint.port) == ("http", ("y", "z"), 9000)


def test_overrides_are_refused_for_a_function(tmp_path: Path) -> None:
    directory(tmp_path, LOCAL, agent__py=AGENT)
    assert "cannot be given for a local agent" in refusal(tmp_path, interface="http")


def test_an_image() -> None:
    digest = "sha256:" + "0" * 64
    loaded = image_submission(f"registry:5000/team/agent@{digest}", interface="http", port=1)
    assert loaded.agent_name == "agent"
    assert loaded.agent_endpoint.interface == "http"


@pytest.mark.parametrize("reference", ["", "a\nb", "x" * 600])
def test_what_cannot_name_an_image(reference: str) -> None:
    with pytest.raises(InvalidSubmission):
        image_submission(reference)


def test_no_manifest_shows_a_minimal_one(tmp_path: Path) -> None:
    text = refusal(tmp_path)
    assert "has no submission.toml" in text
    assert 'endpoint_type = "local"' in text


def test_a_file_without_its_function(tmp_path: Path) -> None:
    directory(tmp_path, None, agent__py=AGENT)
    assert "agent.py:my_agent" in refusal(tmp_path / "agent.py")


def test_several_problems_are_told_at_once(tmp_path: Path) -> None:
    text = refusal(
        directory(
            tmp_path,
            'agent_nam = "x"\ncategories = ["resoning"]\nterms_accepted = "yes"\nimage = "x"\n'
            '[agent_endpoint]\nendpoint_type = "locl"\nport = 0\n',
        )
    )
    for part in (
        "agent_name is missing",
        "agent_nam is unknown: did you mean agent_name?",
        "categories[0]: 'resoning' is not one of reasoning, tool_use, planning,",
        "terms_accepted: input should be a valid boolean",
        "'locl' is not one of local, container, http, grpc",
        "agent_endpoint.port",
        "image belongs under [agent_endpoint]",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("manifest", "part"),
    [
        (b"\n\xff", "line 2: not UTF-8"),
        ("a =\n", "line 1"),
        ("x = " + "[" * 3000, "not valid TOML"),
        ("x = " + "9" * 5000, "not valid TOML"),
        ("#" * (MAX_MANIFEST_BYTES + 1), "larger than 64 KiB"),
        (container(), "exactly one of image, archive, dockerfile; none given"),
        (container('image = "a"', 'archive = "b"'), "image and archive given"),
        (container('archive = "../x"'), "inside the submission's directory"),
        (container('archive = "/etc/passwd"'), "inside the submission's directory"),
        (container('archive = "missing.tar"'), "there is no such file"),
        (container('dockerfile = "."'), "not a regular file"),
        (container('url = "http://x"', 'image = "a"'), "url is not for a container agent"),
        (container('image = "a\\u001b[31m"'), "unprintable"),
        (container('image = "a"', "command = [1]"), "command[0]"),
        (LOCAL.replace('"agent"', '"agent.py"'), "leave that out"),
        (LOCAL.replace('"agent"', '"../agent"'), "write packages with dots"),
        (LOCAL.replace('"answer"', '"class"'), "is a Python keyword"),
        (LOCAL.replace('"answer"', '"a b"'), "is not a Python identifier"),
        (LOCAL, "neither agent.py nor agent/__init__.py"),
        (LOCAL + 'auth_credentials = {token = "x"}', "secrets do not belong in a manifest"),
    ],
)
def test_a_bad_manifest(tmp_path: Path, manifest: str | bytes, part: str) -> None:
    text = refusal(directory(tmp_path, manifest))
    assert part in text
    assert "submission.toml" in text


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("def other(): ...\nasync def third(): ...\n", "it defines other, third"),
        ("x = 1\n", "it defines none"),
        ("def answer(:\n", "line 1: not valid Python"),
        ("class A:\n    def answer(self): ...\n", "it defines none"),
        ("x = '\0'", "not valid Python"),
        ("(" * 5000, "not "),
        ("-" * 200_000 + "1", "not "),
    ],
)
def test_a_function_that_is_not_there(tmp_path: Path, code: str, part: str) -> None:
    text = refusal(directory(tmp_path, LOCAL, agent__py=code))
    assert "agent.py" in text
    assert part in text


@pytest.mark.parametrize(
    "code",
    [
        "async def answer(p, c): ...",
        "from impl import answer",
        "from impl import *",
        "answer = make()",
        "a, (answer, b) = make()",
        "import impl as answer",
        "try:\n    from fast import answer\nexcept ImportError:\n    def answer(p, c): ...",
        "if True:\n    with x as answer:\n        pass",
        "def __getattr__(name): ...",
    ],
)
def test_a_function_may_come_from_anywhere(tmp_path: Path, code: str) -> None:
    load_submission(str(directory(tmp_path, LOCAL, agent__py=code)))


def test_nothing_of_the_agent_is_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    code = f"open({str(trap)!r}, 'w')\n{AGENT}"
    load_submission(str(directory(tmp_path, LOCAL, agent__py=code)))
    assert not trap.exists()


def test_a_link_may_not_lead_out(tmp_path: Path) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text(AGENT)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "agent.py").symlink_to(outside)
    assert "leads out of" in refusal(directory(inside, LOCAL))


def test_a_url_is_an_http_submission() -> None:
    loaded = load_submission("https://agents.example.com:8443/ask?x=1")
    assert (loaded.agent_name, loaded.agent_version) == ("agents.example.com", "0.0.0")
    endpoint = loaded.agent_endpoint
    assert (endpoint.endpoint_type, endpoint.auth_type) == ("http", "none")
    assert endpoint.url == "https://agents.example.com:8443/ask?x=1"
    assert endpoint.source is None


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("grpc://example.com:50051", "gRPC agents cannot be run yet"),
        ("grpcs://example.com:50051", "gRPC agents cannot be run yet"),
        ("ftp://example.com/", "is not a URL of an agent"),
        ("https://", "is not a URL of an agent"),
        ("https://a b/", "is not a URL of an agent"),
        ("https://a\x1b[2J/", "is not a URL of an agent"),
    ],
)
def test_urls_that_are_none_of_an_agent(url: str, part: str) -> None:
    text = refusal(url)
    assert part in text
    assert text.isprintable()


def test_a_url_has_no_interface() -> None:
    assert "cannot be given for a http agent" in refusal("https://x.example/", interface="http")


def test_what_a_manifest_names_can_be_looked_at_later(tmp_path: Path) -> None:
    read = read_submission(str(directory(tmp_path, LOCAL)))
    with pytest.raises(InvalidSubmission, match="there is neither"):
        check_source(read)


def test_an_http_endpoint_parses(tmp_path: Path) -> None:
    manifest = HEAD + '[agent_endpoint]\nendpoint_type = "http"\nurl = "https://x.example/a"\n'
    loaded: BenchmarkSubmission = load_submission(str(directory(tmp_path, manifest)))
    assert loaded.agent_endpoint.url == "https://x.example/a"
    assert loaded.agent_endpoint.auth_header == "X-API-Key"


HTTP = HEAD + '[agent_endpoint]\nendpoint_type = "http"\nurl = "https://x.example/a"\n'


def test_headers_of_an_http_endpoint(tmp_path: Path) -> None:
    manifest = HTTP + (
        'auth_type = "api_key"\nauth_env = "AGENT_KEY"\nauth_header = "X-Key"\n'
        '[agent_endpoint.headers]\nX-Team = "s3cret"\n'
    )
    endpoint = load_submission(str(directory(tmp_path, manifest))).agent_endpoint
    assert (endpoint.auth_type, endpoint.auth_header) == ("api_key", "X-Key")
    assert endpoint.headers["X-Team"].get_secret_value() == "s3cret"
    assert "s3cret" not in repr(endpoint)


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        ('[agent_endpoint.headers]\n"X y" = "s3cret"', "'X y' is not the name of a header"),
        ('[agent_endpoint.headers]\nHost = "s3cret"', "Host is set by the runner"),
        ('[agent_endpoint.headers]\nauthorization = "s3cret"', "authorization is set by"),
        ('[agent_endpoint.headers]\nTransfer-Encoding = "s3cret"', "is set by the runner"),
        ('[agent_endpoint.headers]\nX = "s3cret\\r\\nY: z"', "X is empty, or holds"),
        ('[agent_endpoint.headers]\nX = ""', "X is empty, or holds"),
        ('[agent_endpoint.headers]\nX = "s3cret é"', "X is empty, or holds"),
        ('[agent_endpoint.headers]\nX = "1"\nx = "2"', "is there twice"),
        ("[agent_endpoint.headers]\nX = 1", "valid string"),
        ('auth_header = "X y"', "'X y' is not the name of a header"),
        ('auth_header = "Host"', "Host is set by the runner"),
        ('[agent_endpoint.auth_credentials]\ntoken = "s3cret"', "do not belong in a manifest"),
    ],
)
def test_headers_that_cannot_be_sent(lines: str, part: str) -> None:
    text = problem_of((HTTP + lines).encode())
    assert part in text
    assert "s3cret" not in text


def test_headers_are_for_http_alone() -> None:
    text = problem_of((LOCAL + '[agent_endpoint.headers]\nX = "1"\n').encode())
    assert "headers is not for a local agent" in text


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda t: t.encode("utf-8", "replace")))
def test_any_bytes_give_a_manifest_or_one_line(data: bytes) -> None:
    assert problem_of(data).isprintable()


@given(
    st.dictionaries(
        st.text(max_size=10) | st.sampled_from(["agent_name", "agent_endpoint", "categories"]),
        st.text(max_size=10) | st.integers() | st.lists(st.text(max_size=5), max_size=3),
        max_size=5,
    )
)
def test_any_table_gives_a_manifest_or_one_line(table: dict[str, object]) -> None:
    lines = [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in table.items()]
    data = "\n".join(lines).replace("\x7f", "").encode("utf-8", "replace")
    assert problem_of(data).isprintable()
