"""Keeps a key out of what is passed on, wherever an upstream repeats it."""

from __future__ import annotations

REDACTED = b"[redacted]"


class Redaction:
    """Replaces `secret` in a stream; only what may be its beginning is held back."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """What may be passed on now."""
        if not self._secret:
            return chunk
        text = (self._held + chunk).replace(self._secret, REDACTED)
        begun = self._begun(text)
        self._held = text[len(text) - begun :]
        return text[: len(text) - begun]

    def end(self) -> bytes:
        """What was held back, and was not the secret after all."""
        held, self._held = self._held, b""
        return held

    def _begun(self, text: bytes) -> int:
        """How many bytes at the end of `text` are the secret's first ones."""
        longest = min(len(self._secret) - 1, len(text))
        for length in range(longest, 0, -1):
            if self._secret.startswith(text[len(text) - length :]):
                return length
        return 0
