"""curl asks the gateway from a container without a network, with a shell for an agent."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from runner import ExecutionStatus
from tests.integration.evaluated import Ran, evaluate, task

pytestmark = pytest.mark.docker

COUNTED = " ".join(str(number) for number in range(1, 41))
SCRIPT = f"""
[[rule]]
match = '^count$'
reply = "{COUNTED}"
chunk_count = 10
[[rule]]
match = '^echo (\\w+)$'
reply = "{{1}}"
"""
CURL_AGENT = """\
#!/bin/sh
cat > /dev/null
curl() { /opt/curl/loader --library-path /opt/curl/lib /opt/curl/curl -sS --max-time 20 "$@"; }
post() {
  curl -H "Authorization: Bearer $OPENAI_API_KEY" -H 'Content-Type: application/json' -d "$@"
}
chat='"model": "agenttrace/scripted", "messages": [{"role": "user", "content": "count"}]'
post "{$chat}" "$OPENAI_BASE_URL/chat/completions" > /output/whole
post "{$chat, \\"stream\\": true}" -N "$OPENAI_BASE_URL/chat/completions" > /output/streamed
curl -H "x-api-key: $ANTHROPIC_API_KEY" -H 'anthropic-version: 2023-06-01' \\
  -H 'content-type: application/json' "$ANTHROPIC_BASE_URL/v1/messages" -d '{
    "model": "agenttrace/scripted", "max_tokens": 9,
    "messages": [{"role": "user", "content": "echo hello"}]}' > /output/messages
post '{"expression": "6 * 7"}' "$AGENTTRACE_GATEWAY_URL/tools/calculator" > /output/tool
curl "$AGENTTRACE_GATEWAY_URL/budget" > /output/budget
curl -o /dev/null -w '%{http_code}' -H 'Authorization: Bearer wrong' "$OPENAI_BASE_URL/models" \\
  > /output/refused
curl --max-time 3 http://192.0.2.1/ > /output/outside 2>&1 || echo "exit $?" >> /output/outside
echo 'The answer is 42.'
"""
CURL_DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY curl/ /opt/curl/
COPY agent.sh /agent.sh
"""


@pytest.fixture(scope="module")
def curl(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """This host's curl, with all that it loads, in an image of its own."""
    directory = tmp_path_factory.mktemp("curl")
    source = directory / "source"
    copy_program("curl", source / "curl")
    (source / "agent.sh").write_text(CURL_AGENT)
    (source / "Dockerfile").write_text(CURL_DOCKERFILE)
    (source / "submission.toml").write_text(
        'agent_name = "curl"\nagent_version = "1.0.0"\ncontact_email = "dev@example.com"\n'
        'submitted_by = "tests"\nterms_accepted = true\n'
        '[agent_endpoint]\nendpoint_type = "container"\ndockerfile = "Dockerfile"\n'
        'interface = "stdio"\ncommand = ["sh", "/agent.sh"]\n'
    )
    (directory / "script.toml").write_text(SCRIPT)
    flags = {"gateway.script": str(directory / "script.toml")}
    return evaluate(directory, source, task("curl"), flags)


def copy_program(name: str, to: Path) -> None:
    """With its shared libraries and their loader."""
    if not shutil.which(name):
        subprocess.run(["apt-get", "-qq", "install", "-y", name], check=True, timeout=300)
    program = shutil.which(name)
    assert program
    (to / "lib").mkdir(parents=True)
    shutil.copy(program, to / name)
    listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    for path in re.findall(r"(/\S+) \(0x", listed):
        shutil.copy(path, to / ("loader" if "/ld-linux" in path else "lib"))


def test_curl_gets_answers_whole_and_streamed(curl: Ran) -> None:
    made = curl.task("curl")
    assert made.status is ExecutionStatus.COMPLETED, curl.log("curl")
    assert made.score
    assert made.score.normalized == 100
    assert json.loads(curl.artifact("curl", "whole"))["choices"][0]["message"]["content"] == COUNTED
    lines = curl.artifact("curl", "streamed").split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert len(lines) > 10
    assert json.loads(curl.artifact("curl", "messages"))["content"][0]["text"] == "hello"
    assert [call.streamed for call in made.model_calls] == [False, True, False]


def test_curl_uses_tools(curl: Ran) -> None:
    assert json.loads(curl.artifact("curl", "tool")) == {"result": 42, "error": ""}
    assert json.loads(curl.artifact("curl", "budget"))["tokens_left"] is None


def test_curl_is_refused_what_is_not_there(curl: Ran) -> None:
    assert curl.artifact("curl", "refused") == "401"
    assert re.search(r"exit [1-9]", curl.artifact("curl", "outside")), "there is a network"
