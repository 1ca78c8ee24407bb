"""What an agent can ask for over HTTP: models, tools and what is left of its budget."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol

from pydantic import JsonValue
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router

from runner.domain import Api
from runner.errors import RunnerError
from runner.gateway.answers import send_answer
from runner.gateway.arguments import ESCAPED_BYTES
from runner.gateway.calls import Answer, Refused, Tools
from runner.gateway.cycle import Application, Message, Receive, Send
from runner.gateway.presence import while_there
from runner.gateway.refusals import form_of, refusal
from runner.gateway.tools.formats import answer_body, as_anthropic, as_openai, as_plain

_BEARER = re.compile(r"(?i)bearer +(\S+) *")
_FORMATS = {"": as_plain, "openai": as_openai, "anthropic": as_anthropic}
_ABOUT = {
    "name": "AgentTrace gateway",
    "models": [f"POST {api}" for api in Api] + ["GET /v1/models"],
    "tools": ["GET /tools", "GET /tools?format=openai|anthropic", "POST /tools/NAME", "/mcp"],
    "budget": "GET /budget",
}


class Models(Protocol):
    """The models of one attempt, as `runner.gateway.model_calls` has them."""

    async def call(self, api: Api, raw: bytes, headers: Mapping[str, str]) -> Answer:
        """Raises Refused."""
        ...

    def models(self) -> list[str]:
        """Names under which they can be called."""
        ...

    def owner(self, model: str) -> str:
        """Who is said to own one of them."""
        ...


class GatewayApp:
    """The ASGI application of one attempt."""

    def __init__(
        self,
        *,
        key: str,
        ports: tuple[int, ...],
        models: Models,
        tools: Tools,
        mcp: Application,
        budget_left: Callable[[], Mapping[str, JsonValue]],
        fail: Callable[[RunnerError], None],
    ) -> None:
        """`fail` is told of errors that leave the attempt without a verdict."""
        self._key = key.encode()
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost") for port in ports}
        self._models = models
        self._tools = tools
        self._budget_left = budget_left
        self._fail = fail
        self._router = Router(
            [
                *(Route(api, self._model_endpoint(api), methods=["POST"]) for api in Api),
                Route("/v1/models", self._list_models, methods=["GET"]),
                Route("/tools", self._list_tools, methods=["GET"]),
                Route("/tools/{name}", self._call_tool, methods=["POST"]),
                Route("/mcp", mcp),
                Route("/budget", self._budget, methods=["GET"]),
                Route("/", self._about, methods=["GET"]),
            ],
            redirect_slashes=False,
        )

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serves one request; raises ConnectionError where an answer has to be broken off."""
        begun = False

        async def noting_send(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._serve(scope, receive, noting_send)
        except Refused as refused:
            if begun:
                raise ConnectionError(refused.message) from None
            await send_answer(refusal(refused, form_of(scope["path"])), send)

    async def _serve(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Turns every expected error into Refused."""
        scope["app"] = self  # then the router raises what it refuses
        try:
            self._admit(scope)
            await self._router(scope, receive, send)
        except HTTPException as error:
            raise _unrouted(error, scope) from None
        except ClientDisconnect:
            raise ConnectionError("the agent has closed the connection") from None
        except RunnerError as error:
            self._fail(error)
            raise Refused(500, "internal_error", "the gateway failed") from error

    def _admit(self, scope: Mapping[str, Any]) -> None:
        headers = Headers(scope=dict(scope))
        if headers.get("host", "").lower() not in self._hosts:
            raise Refused(421, "misdirected", "this is the gateway of 127.0.0.1, and no proxy")
        given = _keys(headers)
        right = all(secrets.compare_digest(key, self._key) for key in given)
        if not right or (not given and scope["path"].startswith("/v1/")):
            message = "the key is not this attempt's: use OPENAI_API_KEY as it is set here"
            raise Refused(401, "invalid_key", message)

    def _model_endpoint(self, api: Api) -> Callable[[Request], Any]:
        async def call_model(request: Request) -> _Work:
            raw = await request.body()
            return _Work(lambda: self._models.call(api, raw, request.headers))

        return call_model

    async def _list_models(self, _: Request) -> Response:
        models = [
            {"id": name, "object": "model", "created": 0, "owned_by": self._models.owner(name)}
            for name in self._models.models()
        ]
        return JSONResponse({"object": "list", "data": models})

    async def _list_tools(self, request: Request) -> Response:
        form = request.query_params.get("format", "")
        if form not in _FORMATS:
            raise Refused(400, "invalid_request", "format is openai or anthropic, or not given")
        return JSONResponse({"tools": _FORMATS[form](self._tools.definitions())})

    async def _call_tool(self, request: Request) -> Response:
        body = await request.body()
        if len(body) > ESCAPED_BYTES:
            message = f"arguments are limited to {ESCAPED_BYTES} bytes"
            raise Refused(413, "request_too_large", message)
        try:
            arguments = from_json(body or b"{}", allow_inf_nan=False)
        except ValueError:
            raise Refused(400, "invalid_json", "the body is not JSON in UTF-8") from None
        answer = await self._tools.call(request.path_params["name"], arguments, "http")
        return JSONResponse(answer_body(answer))

    async def _budget(self, _: Request) -> Response:
        return JSONResponse(dict(self._budget_left()))

    async def _about(self, _: Request) -> Response:
        return JSONResponse(_ABOUT)


class _Work:
    """An answer that is still to be made, and is given up once the agent has gone."""

    def __init__(self, make: Callable[[], Awaitable[Answer]]) -> None:
        self._make = make

    async def __call__(self, _: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        async with while_there(receive):
            # Nothing between the two waits: a stream that was never begun would not be settled.
            await send_answer(await self._make(), send)


def _keys(headers: Headers) -> list[bytes]:
    """Every credential given: one that is wrong is wrong beside a right one too."""
    given = [key.encode("latin-1") for key in headers.getlist("x-api-key")]
    for value in headers.getlist("authorization"):
        bearer = _BEARER.fullmatch(value)
        given.append((bearer[1] if bearer else value).encode("latin-1"))
    return given


def _unrouted(error: HTTPException, scope: Mapping[str, Any]) -> Refused:
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return Refused(405, "method_not_allowed", f"this path takes {allowed}")
    path = scope["path"][:100].encode("ascii", "backslashreplace").decode()
    return Refused(404, "unknown_path", f"there is no {path!r} here; GET / tells what there is")
