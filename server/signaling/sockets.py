"""The Socket.IO namespaces: parse, authorise, one service call, format.

A message of one socket is handled before the next one is read (`async_handlers=False`), so what a tab sends
keeps its order. Every answer is an ack: `{ok: true, body}` or `{ok: false, error: {code, message, params}}`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import socketio
import structlog
from aiohttp import web
from pydantic import BaseModel

from server.domain.directory import AuthedUser
from server.domain.events import Customer
from server.domain.machine import Refused, Stale
from server.domain.segment import Monitor
from server.probes import Work, is_session_id
from server.services.agents import AgentService
from server.services.call_control import CallControl
from server.services.ports import Clock, Conflict, StepStore, StorageUnavailable
from server.services.presence import Presence
from server.services.sessions import SessionService
from server.services.supervision import SupervisionService
from server.services.tokens import CustomerToken, CustomerTokens, TokenError
from server.services.turn import TurnSettings, ice_access
from server.signaling import protocol as wire
from server.signaling.hub import Hub, Tab, envelope
from server.signaling.live import LiveViews
from server.signaling.socket_guard import Allowance, guard
from server.signaling.views import agent_view, call_view, contact_view, ice_view

log = structlog.get_logger()
MAX_MESSAGE_BYTES = 256 * 1024  # an SDP of 64 KiB, escaped as JSON, with room
HANDLE_S = 10.0  # a step takes milliseconds; past this the sender is told that nothing is certain
BURST, PER_SECOND = 60.0, 20.0  # messages of one socket: typing notes and a storm of re-anchors stay below
AGENT_NAMESPACE, CUSTOMER_NAMESPACE = "/agent", "/customer"


UserOf = Callable[[web.Request], Awaitable[AuthedUser | None]]


@dataclass(frozen=True, slots=True)
class SocketDeps:
    store: StepStore
    sessions: SessionService
    calls: CallControl
    supervision: SupervisionService
    agents: AgentService
    presence: Presence
    hub: Hub
    clock: Clock
    user_of: UserOf
    tokens: CustomerTokens
    turn: TurnSettings
    live: LiveViews


class _Namespace(socketio.AsyncNamespace):  # type: ignore[misc]  # python-socketio ships no types
    """What both namespaces share: the envelope, errors, limits, the stream."""

    def __init__(self, namespace: str, deps: SocketDeps, parse: Callable[[object], Any]) -> None:
        super().__init__(namespace)
        self._deps = deps
        self._parse = parse
        self._allowances: dict[str, Allowance] = {}

    async def trigger_event(self, event: str, *args: Any) -> Any:
        """What the library calls for everything that happens: a connection, its end, or an event of the client's."""
        if event == "connect":
            return await self._connect(*args)
        if event == "disconnect":
            return await self.on_disconnect(*args)
        sid, *sent = args
        if event != "m":
            return _error("unknown_type", "the only event is m")
        return await self._handle(sid, sent[0] if len(sent) == 1 else None)

    async def _connect(self, sid: str, *args: Any) -> None:
        """Raises ConnectionRefusedError, whose text is a code: without one the client would wait for its time-out."""
        if self._deps.hub.closing:
            raise socketio.exceptions.ConnectionRefusedError("draining")
        try:
            await self.on_connect(sid, *args)
        except socketio.exceptions.ConnectionRefusedError:
            raise
        except Exception as error:
            code = "storage_unavailable" if isinstance(error, StorageUnavailable) else "internal"
            log.exception("socket_connect_failed", namespace=self.namespace, code=code)
            try:
                await self.on_disconnect(sid)
            except Exception:
                log.exception("socket_disconnect_failed", namespace=self.namespace)
            raise socketio.exceptions.ConnectionRefusedError(code) from None

    async def on_connect(self, sid: str, environ: dict[str, Any], auth: object = None) -> None:
        raise NotImplementedError

    async def on_disconnect(self, sid: str, reason: str = "") -> None:
        raise NotImplementedError

    async def _send(self, event: str, data: Any, sid: str, callback: Callable[..., None] | None) -> None:
        await self.emit(event, data, to=sid, callback=callback)

    async def _attach(
        self,
        sid: str,
        tenant: str,
        person_id: str,
        liveness_changed: Callable[[], Awaitable[None]],
        still_allowed: Callable[[], Awaitable[bool]],
    ) -> None:
        tab = Tab(sid, person_id, tenant, self._send, self.disconnect, liveness_changed, still_allowed)
        self._allowances[sid] = Allowance(BURST, PER_SECOND)
        await self._deps.hub.attach(tab)

    async def _handle(self, sid: str, data: object) -> dict[str, Any]:
        with Work("socket", namespace=self.namespace) as work:
            answer = await self._answer_safely(sid, data, work)
            work.result = "ok" if answer["ok"] else answer["error"]["code"]
        return answer

    async def _answer_safely(self, sid: str, data: object, work: Work) -> dict[str, Any]:
        allowance = self._allowances.get(sid)
        if allowance is None or not allowance.take():
            return _error("rate_limited", "too many messages; slow down")
        try:
            message = self._parse(data)
            work.learn(type=message.type, **self._about(sid, message))
            async with asyncio.timeout(HANDLE_S):
                body = await self._answer(sid, message)
        except wire.BadMessage as bad:
            return _error(bad.code, bad.message)
        except Stale as late:
            if late.code == "no_change":
                return {"ok": True, "body": {}}
            return _error(late.code, "the state has moved on", late.params)
        except Refused as refusal:
            return _error(refusal.code, "not allowed now")
        except Conflict:
            return _error("busy", "somebody else changed this at the same time; try again")
        except StorageUnavailable as down:
            log.error("storage_unavailable", error=str(down))
            return _error("storage_unavailable", "nothing was saved; try again in a moment")
        except TimeoutError:
            return _error("timeout", "the server is slow; reload to see what is true")
        except Exception:
            log.exception("socket_handler_failed", namespace=self.namespace)
            return _error("internal", "our fault; it is logged")
        return {"ok": True, "body": body.model_dump(mode="json") if isinstance(body, BaseModel) else body}

    async def _answer(self, sid: str, message: Any) -> BaseModel | Mapping[str, Any]:
        raise NotImplementedError

    def _about(self, sid: str, message: Any) -> dict[str, str]:
        """Whom the message is about, for traces and logs: ids only."""
        raise NotImplementedError

    def _ice(self, person_id: str) -> wire.IceServers:
        return ice_view(ice_access(self._deps.turn, person_id, self._deps.clock.now_ms()))

    async def _stream(self, person_id: str, after: int) -> dict[str, Any]:
        part = await self._deps.store.stream(person_id, after)
        return {"head": part.head, "reset": part.reset, "messages": [envelope(m) for m in part.messages]}


class CustomerNamespace(_Namespace):
    """`/customer`: one socket a session, opened by the token that POST /sessions gave."""

    def __init__(self, deps: SocketDeps) -> None:
        super().__init__(CUSTOMER_NAMESPACE, deps, wire.parse_customer)
        self._grants: dict[str, CustomerToken] = {}

    async def on_connect(self, sid: str, environ: dict[str, Any], auth: object = None) -> None:
        token = auth.get("token") if isinstance(auth, dict) else None
        try:
            grant = self._deps.tokens.read(token)
        except TokenError as error:
            raise socketio.exceptions.ConnectionRefusedError(error.code) from None
        self._grants[sid] = grant
        # The socket has a context of its own, which the tab's tasks inherit: their lines tell the session.
        structlog.contextvars.bind_contextvars(session_id=grant.session_id)

        async def changed() -> None:
            """A customer's leg tells whether they are there; the socket does not."""

        async def still_allowed() -> bool:
            return True

        await self._attach(sid, grant.tenant, grant.session_id, changed, still_allowed)

    async def on_disconnect(self, sid: str, reason: str = "") -> None:
        grant = self._grants.pop(sid, None)
        self._allowances.pop(sid, None)
        if grant is not None:
            await self._deps.hub.detach(grant.session_id, sid)

    def _about(self, sid: str, message: Any) -> dict[str, str]:
        return {"session_id": self._grants[sid].session_id}

    async def _answer(self, sid: str, message: Any) -> BaseModel | Mapping[str, Any]:
        grant, deps = self._grants[sid], self._deps
        match message:
            case wire.CallRequestMessage(body=body):
                who = Customer(body.name, body.locale, body.page_url, body.context, body.consent_version)
                earlier_id = deps.tokens.read_return(body.return_token, grant.tenant)
                call = await deps.sessions.call(grant, who, body.sdp, earlier_id)
                return {"call": call_view(call).model_dump(mode="json")}
            case wire.CallHangUpMessage():
                await _forgiving(deps.sessions.customer_hang_up(grant), "session_ended")
            case wire.PlaceKeepMessage():
                await deps.sessions.keep_place(grant)
            case wire.CallbackAskMessage(body=body):
                await deps.sessions.ask_callback(grant, body.number)
            case wire.PlaceTakeMessage():
                await deps.sessions.take_place(grant)
            case wire.LegOfferMessage(body=body):
                if body.session_id != grant.session_id:
                    raise Refused("not_your_session")
                await deps.sessions.customer_leg(grant, body.leg_id, body.generation, body.sdp)
            case wire.IceServersMessage():
                return self._ice(grant.session_id)
            case wire.StreamFetchMessage(body=body):
                return await self._stream(grant.session_id, body.after)
            case wire.SyncMessage():
                return await self._sync(grant)
        return {}

    async def _sync(self, grant: CustomerToken) -> wire.CustomerSync:
        # The head is read first: a message that comes between is then seen twice, never missed.
        head = (await self._deps.store.stream(grant.session_id, 2**62)).head
        session = await self._deps.sessions.customer_session(grant)
        call = call_view(session) if session is not None else None
        ice = self._ice(grant.session_id)
        return wire.CustomerSync(head=head, now=self._deps.clock.now_ms(), call=call, ice=ice)


class AgentNamespace(_Namespace):
    """`/agent`: one socket an agent, opened by the login cookie."""

    def __init__(self, deps: SocketDeps) -> None:
        super().__init__(AGENT_NAMESPACE, deps, wire.parse_agent)
        self._users: dict[str, AuthedUser] = {}

    async def on_connect(self, sid: str, environ: dict[str, Any], auth: object = None) -> None:
        request = environ["aiohttp.request"]
        user = await self._deps.user_of(request)
        if user is None:
            raise socketio.exceptions.ConnectionRefusedError("not_logged_in")
        self._users[sid] = user
        structlog.contextvars.bind_contextvars(agent_id=user.user_id)

        async def changed() -> None:
            await self._deps.presence.settle(user.tenant, user.user_id)

        async def still_allowed() -> bool:
            return await self._deps.user_of(request) is not None

        await self._attach(sid, user.tenant, user.user_id, changed, still_allowed)
        await changed()
        await self._deps.agents.take_capacity(user.tenant, user.user_id)  # an admin's word may have got lost

    async def on_disconnect(self, sid: str, reason: str = "") -> None:
        user = self._users.pop(sid, None)
        self._allowances.pop(sid, None)
        if user is not None and await self._deps.hub.detach(user.user_id, sid):
            await self._deps.presence.settle(user.tenant, user.user_id)

    def _about(self, sid: str, message: Any) -> dict[str, str]:
        session_id = getattr(message.body, "session_id", None)
        about = {"agent_id": self._users[sid].user_id}
        return about | ({"session_id": session_id} if is_session_id(session_id) else {})

    async def _answer(self, sid: str, message: Any) -> BaseModel | Mapping[str, Any]:
        user, deps = self._users[sid], self._deps
        sessions, body = deps.sessions, message.body
        match message:
            case wire.SetStateMessage():
                return {"agent": agent_view(await deps.agents.choose(user, body.state, body.reason_id)).model_dump()}
            case wire.EquipmentMessage():
                await deps.agents.equip(user, body.fault)
            case wire.OfferAckMessage():
                deps.hub.acked(user.user_id, body.segment_id)
            case wire.OfferAcceptMessage():
                deps.hub.acked(user.user_id, body.segment_id)
                session = await sessions.accept(user, body.session_id, body.segment_id, body.sdp)
                segment = session.segment(body.segment_id)
                assert segment is not None
                return {"contact": contact_view(session, segment).model_dump(mode="json")}
            case wire.OfferRejectMessage():
                deps.hub.acked(user.user_id, body.segment_id)
                await sessions.reject(user, body.session_id, body.segment_id)
            case wire.LegOfferMessage():
                await sessions.agent_leg(user, body.session_id, body.leg_id, body.generation, body.sdp)
            case wire.ContactHoldMessage():
                await sessions.hold(user, body.session_id, body.segment_id, body.on)
            case wire.ContactRecordMessage():
                await sessions.pause_recording(user, body.session_id, body.segment_id, body.paused)
            case wire.ContactMarkMessage():
                await sessions.mark_recording(user, body.session_id, body.segment_id)
            case wire.ContactMuteMessage():
                await deps.calls.mute(user, body.session_id, body.segment_id, body.on)
            case wire.ContactDigitsMessage():
                await deps.calls.send_digits(user, body.session_id, body.segment_id, body.digits)
            case wire.ContactTransferMessage(body=wire.Transfer(queue_id=str(queue_id))):
                await deps.calls.transfer_to_queue(user, body.session_id, body.segment_id, queue_id)
            case wire.ContactTransferMessage(body=wire.Transfer(agent_id=str(agent_id))):
                await deps.calls.transfer_to_agent(user, body.session_id, body.segment_id, agent_id)
            case wire.ContactParkMessage():
                await deps.calls.park(user, body.session_id, body.segment_id)
            case wire.ContactFetchMessage():
                session = await deps.calls.fetch(user, body.session_id)
                assert session.owner is not None
                return {"contact": contact_view(session, session.owner).model_dump(mode="json")}
            case wire.ConsultBeginMessage():
                await deps.calls.consult(user, body.session_id, body.segment_id, body.agent_id)
            case wire.ConsultEndMessage():
                await deps.calls.release_guest(user, body.session_id, body.segment_id, body.guest_segment_id)
            case wire.ConsultSwapMessage():
                await deps.calls.swap(user, body.session_id, body.segment_id, body.to_customer)
            case wire.ConsultConferMessage():
                await deps.calls.confer(user, body.session_id, body.segment_id)
            case wire.SuperviseBeginMessage():
                session = await deps.supervision.begin(user, body.session_id)
                segment = next(x for x in reversed(session.supervisors) if x.agent_id == user.user_id)
                return {"contact": contact_view(session, segment).model_dump(mode="json")}
            case wire.SuperviseModeMessage():
                await deps.supervision.change(user, body.session_id, body.segment_id, Monitor(body.monitor))
            case wire.SuperviseTakeOverMessage():
                await deps.supervision.take_over(user, body.session_id, body.segment_id)
            case wire.ConsultCompleteMessage():
                await deps.calls.complete(user, body.session_id, body.segment_id, body.guest_segment_id)
            case wire.ContactHangUpMessage():
                await _forgiving(sessions.agent_hang_up(user, body.session_id, body.segment_id), "contact_over")
            case wire.ContactNotesMessage():
                await sessions.save_notes(user, body.session_id, body.segment_id, body.notes, body.disposition_id)
            case wire.ContactExtendMessage():
                session = await sessions.extend_wrap_up(user, body.session_id, body.segment_id, body.deadline_at)
                segment = session.segment(body.segment_id)
                assert segment is not None
                return {"contact": contact_view(session, segment).model_dump(mode="json")}
            case wire.ContactWrapUpMessage():
                finished = sessions.wrap_up(user, body.session_id, body.segment_id, body.notes, body.disposition_id)
                await _forgiving(finished, "contact_over")
            case wire.IceServersMessage():
                return self._ice(user.user_id)
            case wire.StreamFetchMessage():
                return await self._stream(user.user_id, body.after)
            case wire.SyncMessage():
                return await self._sync(user)
        return {}

    async def _sync(self, user: AuthedUser) -> wire.AgentSync:
        deps = self._deps
        head = (await deps.store.stream(user.user_id, 2**62)).head
        contacts = []
        for session, segment_id in await deps.agents.contacts(user):
            segment = session.segment(segment_id)
            if segment is not None:
                contacts.append(contact_view(session, segment))
        agent = agent_view(await deps.agents.agent(user))
        return wire.AgentSync(
            head=head,
            now=deps.clock.now_ms(),
            routing_paused=deps.live.paused,
            agent=agent,
            contacts=contacts,
            ice=self._ice(user.user_id),
        )


async def _forgiving(work: Awaitable[None], code: str) -> None:
    """A wish that came true by other means is no error."""
    try:
        await work
    except Stale as late:
        if late.code != code:
            raise


def _error(code: str, message: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {"ok": False, "error": {"code": code, "message": message, "params": dict(params or {})}}


def build_socket_server(deps: SocketDeps) -> socketio.AsyncServer:
    """A Socket.IO server with both namespaces; WebSocket only. Origins are checked by the aiohttp middleware."""
    sio = socketio.AsyncServer(
        async_mode="aiohttp",
        transports=["websocket"],
        async_handlers=False,
        cors_allowed_origins="*",
        max_http_buffer_size=MAX_MESSAGE_BYTES,
        ping_interval=10,
        ping_timeout=5,
        namespaces=[AGENT_NAMESPACE, CUSTOMER_NAMESPACE],
    )
    guard(sio)
    sio.register_namespace(AgentNamespace(deps))
    sio.register_namespace(CustomerNamespace(deps))
    return sio
