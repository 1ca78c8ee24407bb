"""Reads the head of a hostile HTTP/1.1 request more strictly than the parser beneath.

`h11` takes what two parsers may read differently (folded headers, bare line feeds, two lengths that
agree); whoever sends that here is not an honest client, and is refused.
"""

from __future__ import annotations

import re

import h11

from runner.gateway.calls import Refused

HEAD_BYTES = 64 * 1024
"""Largest request line and headers."""
_HEADER_LINES = 200

_AMBIGUOUS = re.compile(rb"\r[^\n]|(?<!\r)\n|\n[ \t]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""A bare CR or LF, a folded header, a control character."""
_LENGTHS = re.compile(rb"(?i)\ncontent-length[ \t]*:[ \t]*([^\r]*)")
_ENCODINGS = re.compile(rb"(?i)\ntransfer-encoding[ \t]*:")
_VERSIONS = frozenset({b"1.0", b"1.1"})


def bad_request(message: str, status: int = 400) -> Refused:
    """A request that is not HTTP as we take it; its connection ends with the answer."""
    return Refused(status, "invalid_request", message)


def check_bytes(data: bytes | bytearray, start: int) -> None:
    """Refuses what no head may hold, in `data` from about `start` on; it need not be whole."""
    if not 0x21 <= data[0] <= 0x7E or _AMBIGUOUS.search(data, max(0, start - 1)):
        raise bad_request("this is not an HTTP/1.1 request that can be read in one way only")


def parse_head(head: bytes) -> tuple[h11.Connection, h11.Request]:
    """One request, with the parser that reads its body and writes its answer.

    `head` ends with its empty line, and has passed `check_bytes`.
    """
    if head.count(b"\n") > _HEADER_LINES:
        raise bad_request("there are too many headers", 431)
    _check_framing(head)
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
    parser.receive_data(head)
    try:
        request = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise bad_request("this is not an HTTP/1.1 request", error.error_status_hint) from None
    if not isinstance(request, h11.Request):
        raise bad_request("this is not an HTTP/1.1 request")
    _check_request(request)
    return parser, request


def _check_framing(head: bytes) -> None:
    lengths: list[bytes] = _LENGTHS.findall(head)
    encodings = len(_ENCODINGS.findall(head))
    if len(lengths) + encodings > 1:
        raise bad_request("more than one header tells how long the body is")
    if lengths and not lengths[0].rstrip(b" \t").isdigit():
        raise bad_request("Content-Length is not a number")


def _check_request(request: h11.Request) -> None:
    if request.http_version not in _VERSIONS:
        raise bad_request("only HTTP/1.1 is spoken here", 505)
    chunked = any(name == b"transfer-encoding" for name, _ in request.headers)
    if chunked and request.http_version == b"1.0":
        raise bad_request("HTTP/1.0 has no Transfer-Encoding")
    if request.method == b"CONNECT":
        raise Refused(405, "method_not_allowed", "this is not a proxy: CONNECT is not served")
    if not request.target.startswith(b"/"):
        raise bad_request("this is not a proxy: ask for a path, such as /v1/chat/completions")
