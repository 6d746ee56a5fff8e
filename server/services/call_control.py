"""What an agent does with a call beside talking: hand it over, call others in, be silent."""

from __future__ import annotations

from dataclasses import dataclass

from server.domain import events as ev
from server.domain.directory import AgentProfile, AuthedUser, QueueConfig
from server.domain.endings import SegmentEnd
from server.domain.floor import FloorFilter
from server.domain.hours import is_open
from server.domain.machine import Refused, Stale
from server.domain.session import Session
from server.services.admin_ports import Directory, Floor
from server.services.arrivals import Arrivals
from server.services.ports import Clock, StepStore
from server.services.stepper import Stepper

LISTED = 50  # agents: whoever is not among them is found by name


@dataclass(frozen=True, slots=True)
class TargetAgent:
    """`free`: takes a call now."""

    user_id: str
    name: str
    state: str
    free: bool


@dataclass(frozen=True, slots=True)
class TargetQueue:
    """`open`: its hours say so."""

    queue_id: str
    name: str
    waiting: int
    open: bool


@dataclass(frozen=True, slots=True)
class Targets:
    agents: tuple[TargetAgent, ...]
    queues: tuple[TargetQueue, ...]


class CallControl:
    """Each raises Refused (not_your_contact, not_in_call, not_the_owner and those that are named), Stale, Conflict,
    StorageUnavailable."""

    def __init__(self, store: StepStore, stepper: Stepper, directory: Directory, arrivals: Arrivals, clock: Clock):
        self._store = store
        self._stepper = stepper
        self._directory = directory
        self._arrivals = arrivals
        self._clock = clock

    async def mute(self, user: AuthedUser, session_id: str, segment_id: str, on: bool) -> None:
        await self._apply(user, session_id, ev.MuteChanged(segment_id, user.user_id, on))

    async def send_digits(self, user: AuthedUser, session_id: str, segment_id: str, digits: str) -> None:
        await self._apply(user, session_id, ev.DigitsSent(segment_id, user.user_id, digits))

    async def transfer_to_queue(self, user: AuthedUser, session_id: str, segment_id: str, queue_id: str) -> None:
        """Raises Refused: queue_closed, outside_hours, consulting."""
        queue = await self._directory.queue(user.tenant, queue_id)
        if queue is None or not queue.active:
            raise Refused("queue_closed")
        if queue.life.hours is not None and not is_open(queue.life.hours, self._clock.now_ms()):
            raise Refused("outside_hours")
        rules = await self._arrivals.rules(queue)
        await self._apply(user, session_id, ev.Transferred(segment_id, user.user_id, rules))

    async def transfer_to_agent(self, user: AuthedUser, session_id: str, segment_id: str, agent_id: str) -> None:
        """They are asked at once; without an answer the customer waits on, first in line. Raises Refused:
        target_unavailable, consulting."""
        name = await self._name_of(user, agent_id)
        transferred = ev.Transferred(segment_id, user.user_id, None)
        offered = ev.AgentOffered(agent_id, name, {}, user.name)
        await self._ask(user, session_id, transferred, offered)

    async def park(self, user: AuthedUser, session_id: str, segment_id: str) -> None:
        """Leave the customer on hold, for whoever fetches them. Raises Refused: consulting, parked_too_often."""
        await self._apply(user, session_id, ev.SessionParked(segment_id, user.user_id))

    async def fetch(self, user: AuthedUser, session_id: str) -> Session:
        """Take a parked session. For who serves its queue, or has parked it. Raises Refused (forbidden,
        agent_unavailable, parked_too_often), Stale (offer_taken with the agent's name, not_parked, customer_left)."""
        session = await self._store.session(session_id)
        if session is None or session.tenant != user.tenant:
            raise Stale("not_parked")  # as of one that is over: ids can't be probed
        if not may_fetch(
            session,
            await self._directory.queue(user.tenant, session.queue.queue_id),
            await self._directory.agent(user.tenant, user.user_id),
        ):
            raise Refused("forbidden") if session.parked is not None else Stale("not_parked")
        return await self._stepper.apply(session_id, ev.SessionFetched(user.user_id, user.name))

    async def consult(self, user: AuthedUser, session_id: str, segment_id: str, agent_id: str) -> None:
        """Raises Refused: target_unavailable, takes_part_already, too_many_take_part."""
        name = await self._name_of(user, agent_id)
        await self._ask(user, session_id, ev.GuestInvited(segment_id, user.user_id, agent_id, name))

    async def release_guest(self, user: AuthedUser, session_id: str, segment_id: str, guest_id: str) -> None:
        await self._apply(user, session_id, ev.GuestReleased(segment_id, user.user_id, guest_id))

    async def swap(self, user: AuthedUser, session_id: str, segment_id: str, to_customer: bool) -> None:
        """Raises Refused: nobody_consulted."""
        await self._apply(user, session_id, ev.ConsultSwapped(segment_id, user.user_id, to_customer))

    async def confer(self, user: AuthedUser, session_id: str, segment_id: str) -> None:
        """Raises Refused: nobody_consulted."""
        await self._apply(user, session_id, ev.ConferenceBegun(segment_id, user.user_id))

    async def complete(self, user: AuthedUser, session_id: str, segment_id: str, guest_id: str) -> None:
        """Raises Refused: nobody_consulted."""
        await self._apply(user, session_id, ev.ConsultCompleted(segment_id, user.user_id, guest_id))

    async def _apply(self, user: AuthedUser, session_id: str, *events: ev.Event) -> None:
        """The rules look whose segment it is; whose session it is they can't know."""
        session = await self._store.session(session_id)
        if session is None or session.tenant != user.tenant:
            raise Refused("not_your_contact")
        await self._stepper.apply(session_id, *events)

    async def _ask(self, user: AuthedUser, session_id: str, *events: ev.Event) -> None:
        """Raises Refused(target_unavailable) where the agent who is asked takes no call now."""
        try:
            await self._apply(user, session_id, *events)
        except Refused as refusal:
            raise Refused("target_unavailable" if refusal.code == "agent_unavailable" else refusal.code) from None

    async def _name_of(self, user: AuthedUser, agent_id: str) -> str:
        """Raises Refused(target_unavailable) for nobody who could be asked."""
        profile = await self._directory.agent(user.tenant, agent_id)
        if profile is None or not profile.active or agent_id == user.user_id:
            raise Refused("target_unavailable")
        return profile.name


def may_fetch(session: Session, queue: QueueConfig | None, profile: AgentProfile | None) -> bool:
    """Who serves the session's queue, now or after some waiting, and who has parked it."""
    if profile is None or not profile.active:
        return False
    parked = any(s.agent_id == profile.user_id and s.end_reason is SegmentEnd.PARKED for s in session.segments)
    return parked or (queue is not None and queue.serves(profile))


class TransferTargets:
    """Whom and what a call can be handed over to, as it is now."""

    def __init__(self, floor: Floor, store: StepStore, directory: Directory, clock: Clock) -> None:
        self._floor = floor
        self._store = store
        self._directory = directory
        self._clock = clock

    async def find(self, user: AuthedUser, text: str | None) -> Targets:
        """Agents on duty and queues whose name holds `text`; the agent who asks is not among them."""
        on_duty = await self._floor.agents(user.tenant, FloorFilter(text, on_duty=True), LISTED + 1, 0)
        agents = [
            TargetAgent(a.user_id, a.name, a.state, a.state == "ready" and a.live and a.fault is None)
            for a in on_duty
            if a.user_id != user.user_id
        ]
        now, wanted = self._clock.now_ms(), (text or "").casefold()
        queues = [
            TargetQueue(
                queue.queue_id,
                queue.name,
                await self._store.waiting(user.tenant, queue.queue_id),
                queue.life.hours is None or is_open(queue.life.hours, now),
            )
            for queue in await self._directory.queues(user.tenant)
            if queue.active and wanted in queue.name.casefold()
        ]
        agents.sort(key=lambda a: (not a.free, a.name.casefold()))
        return Targets(tuple(agents[:LISTED]), tuple(sorted(queues[:LISTED], key=lambda q: q.name.casefold())))
