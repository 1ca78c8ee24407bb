"""Embeddings that mean nothing: unit vectors from a hash, the same for the same text."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from collections.abc import Mapping
from typing import Any

DIMENSIONS = 64
MOST_DIMENSIONS = 4_096


def embeddings(body: Mapping[str, Any], model: str, tokens: int) -> dict[str, Any]:
    """The answer of OpenAI's API to a checked request."""
    dimensions = min(body.get("dimensions") or DIMENSIONS, MOST_DIMENSIONS)
    packed = body.get("encoding_format") == "base64"
    vectors = [unit_vector(_bytes(item), dimensions) for item in _items(body["input"])]
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": _packed(vector) if packed else vector,
            }
            for index, vector in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def unit_vector(content: bytes, dimensions: int) -> list[float]:
    """Of length 1."""
    stream = hashlib.shake_256(content).digest(4 * dimensions)
    numbers = [number / 2**31 - 1 for number in struct.unpack(f"<{dimensions}I", stream)]
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [round(number / length, 9) for number in numbers]


def _items(given: Any) -> list[Any]:
    if isinstance(given, str) or isinstance(given[0], int):
        return [given]
    return list(given)


def _bytes(item: Any) -> bytes:
    return item.encode() if isinstance(item, str) else ",".join(map(str, item)).encode()


def _packed(vector: list[float]) -> str:
    """As OpenAI's client library asks for it: 32-bit numbers, least byte first."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
