"""A build's output: kept as it came, bounded, and its last meaningful line for a person."""

from __future__ import annotations

import re
from pathlib import Path

from runner.domain.text import one_line
from runner.images.streaming import Message

MAX_LOG_BYTES = 16 * 1024 * 1024
MAX_OUTPUT_BYTES = 64 * 1024 * 1024
MAX_IDS = 5000

_CONTAINER = re.compile(r" ---> Running in ([0-9a-f]{12})\n")
_IMAGE = re.compile(r" ---> ([0-9a-f]{12})\n")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_NOISE = re.compile(r"\s*(--->|Step \d+/\d+ :|Removing intermediate container|Successfully )")


class BuildLog:
    """Receives a build's messages, in another thread than the one that reads it.

    The ids are hints: a RUN step can print lines that look like the engine's own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.image_id = ""
        """Of the finished image, from a message that no step can forge."""
        self.error = ""
        self.error_code: int | None = None
        """Exit status of the RUN step that failed, if one did."""
        self.container_hints: list[str] = []
        self.image_hints: list[str] = []
        self.output_bytes = 0
        self._last_line = ""
        self._kept = bytearray()

    def receive(self, message: Message) -> None:
        """Takes in one message of the engine's."""
        if isinstance(text := message.get("stream"), str):
            self._note(text)
        if isinstance(text := message.get("status"), str) and "progressDetail" not in message:
            self._note(text + "\n")
        if isinstance(aux := message.get("aux"), dict) and isinstance(aux.get("ID"), str):
            self.image_id = aux["ID"]
        if (error := message.get("error")) is not None:
            detail = message.get("errorDetail")
            self.error = str(error) or "unknown error"
            self.error_code = detail.get("code") if isinstance(detail, dict) else None
            self._note(self.error + "\n")

    @property
    def kept(self) -> bytes:
        """The output, as much of it as is kept."""
        return bytes(self._kept)

    @property
    def is_flooded(self) -> bool:
        """Whether more came than any honest build prints."""
        return self.output_bytes > MAX_OUTPUT_BYTES or len(self.container_hints) > MAX_IDS

    @property
    def reason(self) -> str:
        """One line for a person on why it failed, hostile bytes escaped."""
        error = one_line(self.error, 300)
        last = one_line(self._last_line, 200)
        return f"{error}: {last}" if last and last not in error else error

    def write(self) -> None:
        """Writes what is kept to the log's file; raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(self._kept)

    def _note(self, text: str) -> None:
        data = text.encode("utf-8", "surrogateescape" if text.isascii() else "replace")
        self.output_bytes += len(data)
        self._kept += data[: MAX_LOG_BYTES - len(self._kept)]
        if len(self.container_hints) <= MAX_IDS and len(self.image_hints) <= MAX_IDS:
            self.container_hints += _CONTAINER.findall(text)
            self.image_hints += _IMAGE.findall(text)
        if text.rstrip("\n") == self.error or _NOISE.match(text):
            return
        lines = [line for line in _COLOUR.sub("", text).splitlines() if line.strip()]
        if lines:
            self._last_line = lines[-1].strip()
