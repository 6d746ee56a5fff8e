"""What a customer's browser asks without a login: is somebody there, and may I call?"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from server.domain.directory import EntryPoint, QueueConfig
from server.domain.hours import next_opening
from server.ids import new_id
from server.services.rate_limits import RateLimit, address_key
from server.services.refusals import Refused
from server.services.turn import ice_access
from server.signaling.access import ANYBODY
from server.signaling.locales import choose_locale
from server.signaling.protocol import IceServer
from server.signaling.rest.endpoint import Call, Endpoint, Endpoints, Nothing
from server.signaling.rest.models import Locale, Ms, RestModel
from server.signaling.views import ice_view
from server.signaling.web_deps import WebDeps

Key = Annotated[str, Field(pattern=r"^wk_[A-Za-z0-9_\-]{1,60}$")]


class WidgetView(RestModel):
    key: str
    name: str
    locale_default: str
    queue_name: str
    agents_ready: bool
    recording_notice: bool
    open: bool = Field(description="within the queue's hours; else a call is refused with outside_hours")
    opens_at: Ms | None = Field(description="when it opens next; null while it is open, or when that is not known")


class SessionCreate(RestModel):
    key: Key
    locale: Locale | None = None


class SessionCreated(RestModel):
    """`token` opens the socket of this one session. Nothing is stored until `call.request`.

    `ice_servers` carry credentials until `ice_expires_at` (null: they do not expire); newer ones come by that socket.
    `relay_only`: no path but through a TURN server. `return_token` goes with this browser's next call, so that it may
    get the same agent, or the place that it dropped out of; null where the queue does neither."""

    session_id: str
    token: str
    expires_at: Ms
    ice_servers: list[IceServer]
    relay_only: bool
    ice_expires_at: Ms | None
    recording_notice: bool
    queue_name: str
    return_token: str | None


async def open_entry(deps: WebDeps, key: str) -> tuple[EntryPoint, QueueConfig]:
    """The active entry point of a key and its queue. Raises Refused: unknown_key."""
    entry_point = await deps.directory.entry_point_by_key(key)
    if entry_point is not None and entry_point.active:
        queue = await deps.directory.queue(entry_point.tenant, entry_point.queue_id)
        if queue is not None and queue.active:
            return entry_point, queue
    raise Refused("unknown_key", "no widget has this key")


def endpoints(deps: WebDeps) -> Endpoints:
    """These have limits of their own, hence state of their own."""
    views = RateLimit(deps.limits.widget_views, deps.clock)
    per_address = RateLimit(deps.limits.new_sessions, deps.clock)
    per_key = RateLimit(deps.limits.new_sessions_per_key, deps.clock)

    async def read_widget(call: Call[Nothing, Nothing]) -> WidgetView:
        _take(views, address_key(call.client.address))
        entry_point, queue = await open_entry(call.deps, call.part("key"))
        hours, now = queue.life.hours, call.deps.clock.now_ms()
        opens_at = now if hours is None else next_opening(hours, now)
        return WidgetView(
            key=entry_point.key,
            name=entry_point.name,
            locale_default=choose_locale(None, call.request),
            queue_name=queue.name,
            agents_ready=call.deps.availability.agents_ready(queue.tenant, queue.queue_id),
            recording_notice=queue.record,
            open=opens_at == now,
            opens_at=None if opens_at == now else opens_at,
        )

    async def create_session(call: Call[SessionCreate, Nothing]) -> SessionCreated:
        _take(per_address, address_key(call.client.address))
        entry_point, queue = await open_entry(call.deps, call.body.key)
        _take(per_key, entry_point.entry_point_id)
        session_id = new_id("ses")
        token, grant = call.deps.tokens.issue(entry_point.tenant, session_id, entry_point.entry_point_id)
        ice = ice_view(ice_access(call.deps.turn, session_id, call.deps.clock.now_ms()))
        return SessionCreated(
            session_id=session_id,
            token=token,
            expires_at=grant.expires_at,
            ice_servers=ice.ice_servers,
            relay_only=ice.relay_only,
            ice_expires_at=ice.ice_expires_at,
            recording_notice=queue.record,
            queue_name=queue.name,
            return_token=call.deps.tokens.issue_return(entry_point.tenant, session_id)
            if queue.routing.sticky_s or queue.life.return_s
            else None,
        )

    return (
        Endpoint(
            "GET",
            "/widget/{key}",
            "What the widget shows before a call",
            ANYBODY,
            read_widget,
            answer=WidgetView,
            codes=("unknown_key",),
        ),
        Endpoint(
            "POST",
            "/sessions",
            "Begin a session: its id and the token for the socket",
            ANYBODY,
            create_session,
            body=SessionCreate,
            answer=SessionCreated,
            status=201,
            codes=("unknown_key",),
        ),
    )


def _take(limit: RateLimit, key: str) -> None:
    wait_s = limit.take(key)
    if wait_s:
        raise Refused("rate_limited", "too many requests", retry_after_s=wait_s)
