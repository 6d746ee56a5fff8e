"""/entry-points: where sessions arrive, and which sites may embed the widget."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from server.domain.administration import EntryPointRecord
from server.signaling.access import ADMINS
from server.signaling.proxies import Client
from server.signaling.rest.endpoint import Call, Endpoint, Endpoints, Nothing
from server.signaling.rest.models import (
    Id,
    Name,
    Page,
    PageQuery,
    RestModel,
    Version,
    given,
)
from server.signaling.rest.record_page import record_page

MAX_SITES = 50  # they all go into one response header
_HOST = re.compile(r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")


def site_origin(value: str) -> str:
    """An origin as CSP wants it: `https://shop.example`, lower case, international names in Punycode.

    Raises ValueError. What passes holds no space, `;`, `,` or `*`, so it can't widen the policy it goes into."""
    parts = urlsplit(value.strip())
    if parts.scheme not in ("http", "https") or parts.path not in ("", "/") or "@" in parts.netloc:
        raise ValueError("give an origin such as https://shop.example, without a path")
    if parts.query or parts.fragment or not parts.hostname:
        raise ValueError("give an origin such as https://shop.example, without a path")
    try:
        host = parts.hostname.encode("idna").decode().lower()
    except UnicodeError:
        raise ValueError("this host name is not valid") from None
    if not _HOST.match(host):
        raise ValueError("this host name is not valid")
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


Site = Annotated[str, Field(max_length=300), AfterValidator(site_origin)]
Sites = Annotated[list[Site], Field(max_length=MAX_SITES)]


class EntryPointView(RestModel):
    entry_point_id: str
    name: str
    kind: Literal["widget"]
    key: str
    queue_id: str
    allowed_sites: list[str]
    embed_code: str
    active: bool
    version: int


class EntryPointCreate(RestModel):
    name: Name
    kind: Literal["widget"] = "widget"
    queue_id: Id
    allowed_sites: Sites = Field(default_factory=list)


class EntryPointChange(RestModel):
    version: Version
    name: Name | None = None
    queue_id: Id | None = None
    allowed_sites: Sites | None = None
    active: bool | None = None


def embed_code(key: str, client: Client, public_url: str | None) -> str:
    """The line that goes into a site's pages."""
    return f'<script async src="{public_url or client.url}/widget.js" data-key="{key}"></script>'


def view(
    call: Call[EntryPointCreate, Nothing] | Call[EntryPointChange, Nothing] | Call[Nothing, PageQuery],
    entry_point: EntryPointRecord,
) -> EntryPointView:
    return EntryPointView(
        entry_point_id=entry_point.id,
        name=entry_point.name,
        kind="widget",
        key=entry_point.key,
        queue_id=entry_point.queue_id,
        allowed_sites=list(entry_point.allowed_sites),
        embed_code=embed_code(entry_point.key, call.client, call.deps.public_url),
        active=entry_point.active,
        version=entry_point.version,
    )


async def list_entry_points(call: Call[Nothing, PageQuery]) -> Page[EntryPointView]:
    return await record_page(call, EntryPointRecord, lambda entry: view(call, entry))


async def create_entry_point(call: Call[EntryPointCreate, Nothing]) -> EntryPointView:
    body = call.body
    settings = {
        "name": body.name,
        "kind": body.kind,
        "queue_id": body.queue_id,
        "allowed_sites": tuple(dict.fromkeys(body.allowed_sites)),
    }
    return view(call, await call.deps.admin.create_entry_point(call.user, settings))


async def change_entry_point(call: Call[EntryPointChange, Nothing]) -> EntryPointView:
    changes = given(call.body)
    if call.body.allowed_sites is not None:
        changes["allowed_sites"] = tuple(dict.fromkeys(call.body.allowed_sites))
    entry_point_id = call.part("entry_point_id")
    return view(
        call,
        await call.deps.admin.change_entry_point(call.user, entry_point_id, call.body.version, changes),
    )


async def deactivate_entry_point(call: Call[Nothing, Nothing]) -> None:
    await call.deps.admin.change_entry_point(call.user, call.part("entry_point_id"), None, {"active": False})


ENDPOINTS: Endpoints = (
    Endpoint(
        "GET",
        "/entry-points",
        "List entry points",
        ADMINS,
        list_entry_points,
        query=PageQuery,
        answer=Page[EntryPointView],
    ),
    Endpoint(
        "POST",
        "/entry-points",
        "Create an entry point with a fresh key",
        ADMINS,
        create_entry_point,
        body=EntryPointCreate,
        answer=EntryPointView,
        status=201,
        codes=("name_taken",),
    ),
    Endpoint(
        "PATCH",
        "/entry-points/{entry_point_id}",
        "Change an entry point",
        ADMINS,
        change_entry_point,
        body=EntryPointChange,
        answer=EntryPointView,
        codes=("not_found", "changed_meanwhile", "name_taken"),
    ),
    Endpoint(
        "DELETE",
        "/entry-points/{entry_point_id}",
        "Deactivate an entry point: its key is unknown from then on",
        ADMINS,
        deactivate_entry_point,
        status=204,
        codes=("not_found",),
    ),
)
