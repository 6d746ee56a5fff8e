"""An endpoint of the API as data: what it takes, who may use it, what it answers, and the function that does it.

`mount` puts it on the router and declares its access; openapi.py describes it from the same data."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel, ConfigDict, ValidationError

from server.domain.directory import AuthedUser
from server.services.refusals import Refused
from server.signaling.access import USER, Access, declare
from server.signaling.api_errors import from_validation
from server.signaling.proxies import CLIENT, Client
from server.signaling.web_deps import WebDeps

PREFIX = "/api/v1"
MAX_BODY_BYTES = 256 * 1024
BODY_TIMEOUT_S = 15  # 256 KiB over a bad mobile network; slower ones hold a connection for nothing


class Nothing(BaseModel):
    """No body, or no query: whatever comes is not read."""

    model_config = ConfigDict(extra="ignore")


B = TypeVar("B", bound=BaseModel)
Q = TypeVar("Q", bound=BaseModel)
Answer = BaseModel | web.StreamResponse | None  # None: 204


@dataclass(frozen=True, slots=True)
class Call(Generic[B, Q]):
    """One request, checked."""

    deps: WebDeps
    request: web.Request
    body: B
    query: Q

    @property
    def user(self) -> AuthedUser:
        """Who is logged in; only where the access asks for a login."""
        return self.request[USER]

    @property
    def client(self) -> Client:
        return self.request[CLIENT]

    def part(self, name: str) -> str:
        """A part of the path. What can't be an id is not looked up."""
        value = self.request.match_info[name]
        if not value.isascii() or len(value) > 64 or not value.replace("_", "").replace("-", "").isalnum():
            raise Refused("not_found", f"no such {name}")
        return value


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[B, Q]):
    method: str
    path: str  # after PREFIX
    summary: str
    access: Access
    handler: Callable[[Call[B, Q]], Awaitable[Answer]]
    body: type[B] = field(default=Nothing)  # type: ignore[assignment]  # B is Nothing then
    query: type[Q] = field(default=Nothing)  # type: ignore[assignment]  # Q is Nothing then
    answer: type[BaseModel] | None = None
    status: int = 200
    codes: tuple[str, ...] = ()  # the refusals that are particular to it


Endpoints = Sequence[Endpoint[Any, Any]]


def mount(app: web.Application, deps: WebDeps, endpoints: Endpoints) -> None:
    for endpoint in endpoints:
        path = PREFIX + endpoint.path
        app.router.add_route(endpoint.method, path, _handler(deps, endpoint))
        declare(app, endpoint.method, path, endpoint.access)


def _handler(deps: WebDeps, endpoint: Endpoint[Any, Any]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        query = _read_query(request, endpoint.query)
        body = await _read_body(request, endpoint.body)
        answer = await endpoint.handler(Call(deps, request, body, query))
        if isinstance(answer, web.StreamResponse):
            return answer
        if answer is None:
            return web.Response(status=204)
        return web.Response(
            body=answer.model_dump_json().encode(), status=endpoint.status, content_type="application/json"
        )

    return handle


def _read_query(request: web.Request, model: type[Q]) -> Q:
    try:
        # Strings only, so no strict mode: "20" is a number here. A repeated name is a mistake, not a list.
        if len(set(request.query)) != len(request.query):
            raise Refused("invalid", "a query parameter is repeated")
        return model.model_validate(dict(request.query))
    except ValidationError as error:
        raise from_validation(error) from None


async def _read_body(request: web.Request, model: type[B]) -> B:
    if model is Nothing:
        return model()
    if request.content_type != "application/json":
        raise Refused("unsupported_media_type", "send Content-Type: application/json")
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            raw = await request.read()
    except TimeoutError:
        raise Refused("too_slow", "the body took too long") from None
    except (HttpProcessingError, web.RequestPayloadError):
        raise Refused("invalid", "the body is damaged (its encoding or length)") from None
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        raise from_validation(error) from None
