"""What customers and agents do to sessions: each use case loads, checks whose it is, and posts events."""

from __future__ import annotations

from server.domain import events as ev
from server.domain.directory import AuthedUser, QueueConfig
from server.domain.machine import Refused, Stale
from server.domain.session import Session, SessionState, derived_id
from server.services.admin_ports import Directory
from server.services.arrivals import Arrivals, kept_for, last_agent, left_behind
from server.services.media_link import MediaLink
from server.services.ports import Clock, StepStore
from server.services.rate_limits import Rate, RateLimit
from server.services.stepper import Stepper
from server.services.tokens import CustomerToken

LEG_OFFERS = Rate(burst=20, period_s=20)  # of one leg; each takes a port for a while. A reload a second stays below


class SessionService:
    def __init__(
        self,
        store: StepStore,
        stepper: Stepper,
        directory: Directory,
        link: MediaLink,
        clock: Clock,
        arrivals: Arrivals,
    ) -> None:
        self._store = store
        self._stepper = stepper
        self._directory = directory
        self._link = link
        self._arrivals = arrivals
        self._leg_offers = RateLimit(LEG_OFFERS, clock)

    # --- customers ---

    async def call(
        self, grant: CustomerToken, customer: ev.Customer, sdp: str | None, earlier_id: str | None = None
    ) -> Session:
        """Begin the session that the token names; a repeated call returns it as it is. `earlier_id`: the
        session that this browser had before.

        Raises Refused (unknown_key, queue_closed, outside_hours)."""
        session = await self._store.session(grant.session_id)
        first = ev.LegOffered(derived_id(grant.session_id, "leg", 0), 1, sdp) if sdp else None
        if session is None:
            queue = await self._arrivals.queue(grant)
            rules = await self._arrivals.rules(queue)
            earlier = await self._arrivals.earlier(grant.tenant, earlier_id)
            kept_at = earlier.first_arrival if earlier is not None and kept_for(earlier, queue) else None
            earlier = await self._left(queue, earlier)
            place_at = await self._place_at(queue, earlier, grant.session_id, kept_at)
            worker = self._link.place()
            arrived = ev.CallArrived(
                session_id=grant.session_id,
                tenant=grant.tenant,
                entry_point_id=grant.entry_point_id,
                queue=rules,
                customer=customer,
                worker_id=worker.worker_id if worker is not None else None,
                incarnation=worker.incarnation if worker is not None else None,
                priority=queue.routing.priority,
                sticky_agent_id=last_agent(earlier) if earlier is not None else None,
                place_at=place_at,
            )
            events: tuple[ev.Event, ...] = (arrived,)
            if first is not None:
                full = () if place_at is not None else await self._arrivals.full(grant.tenant, rules)
                events = (arrived, first, *full)
            return await self._stepper.apply(grant.session_id, *events, skip_stale=True)
        if first is not None and not session.ended:
            return await self._stepper.apply(grant.session_id, *await self._entering(session, first), skip_stale=True)
        return session

    async def customer_session(self, grant: CustomerToken) -> Session | None:
        return await self._store.session(grant.session_id)

    async def customer_hang_up(self, grant: CustomerToken) -> None:
        if await self._store.session(grant.session_id) is not None:
            await self._stepper.apply(grant.session_id, ev.CustomerHungUp())

    async def keep_place(self, grant: CustomerToken) -> None:
        """The customer goes away for a while. Raises Refused: not_waiting, place_not_offered, being_connected."""
        await self._stepper.apply((await self._of(grant)).id, ev.PlaceKept())

    async def take_place(self, grant: CustomerToken) -> None:
        """The customer is back; their leg is wanted from now on."""
        worker = self._link.place()
        taken = ev.PlaceTaken(worker.worker_id, worker.incarnation) if worker is not None else ev.PlaceTaken(None)
        await self._stepper.apply((await self._of(grant)).id, taken)

    async def ask_callback(self, grant: CustomerToken, number: str) -> None:
        """The customer wants to be called at a number (E.164) in turn. Raises Refused: not_waiting,
        callback_not_offered, being_connected."""
        await self._stepper.apply((await self._of(grant)).id, ev.CallbackAsked(number))

    async def customer_leg(self, grant: CustomerToken, leg_id: str, generation: int, sdp: str) -> None:
        """Raises Refused(unknown_leg) for a leg that is not the customer's own."""
        session = await self._store.session(grant.session_id)
        if session is None or leg_id != derived_id(grant.session_id, "leg", 0):
            raise Refused("unknown_leg")
        await self._offer_leg(session, ev.LegOffered(leg_id, generation, sdp))

    # --- agents ---

    async def accept(self, user: AuthedUser, session_id: str, segment_id: str, sdp: str | None) -> Session:
        session = await self._own(user, session_id, segment_id)
        segment = session.segment(segment_id)
        assert segment is not None
        accepted = ev.AgentAccepted(segment_id, user.user_id)
        events: tuple[ev.Event, ...] = (accepted, ev.LegOffered(segment.leg.id, 1, sdp)) if sdp else (accepted,)
        return await self._stepper.apply(session_id, *events)

    async def reject(self, user: AuthedUser, session_id: str, segment_id: str) -> None:
        await self._own(user, session_id, segment_id)
        await self._stepper.apply(session_id, ev.AgentRejected(segment_id, user.user_id))

    async def agent_hang_up(self, user: AuthedUser, session_id: str, segment_id: str) -> None:
        await self._own(user, session_id, segment_id)
        await self._stepper.apply(session_id, ev.AgentHungUp(segment_id, user.user_id))

    async def hold(self, user: AuthedUser, session_id: str, segment_id: str, on: bool) -> None:
        await self._own(user, session_id, segment_id)
        await self._stepper.apply(session_id, ev.HoldChanged(segment_id, user.user_id, on))

    async def pause_recording(self, user: AuthedUser, session_id: str, segment_id: str, paused: bool) -> None:
        """Raises Refused: not_in_call, not_recording, no_pause_left."""
        await self._own(user, session_id, segment_id)
        await self._stepper.apply(session_id, ev.RecordingPauseAsked(segment_id, user.user_id, paused))

    async def mark_recording(self, user: AuthedUser, session_id: str, segment_id: str) -> None:
        """Raises Refused: not_in_call, not_recording, no_mark_left."""
        await self._own(user, session_id, segment_id)
        await self._stepper.apply(session_id, ev.RecordingMarked(segment_id, user.user_id))

    async def agent_leg(self, user: AuthedUser, session_id: str, leg_id: str, generation: int, sdp: str) -> None:
        """Raises Refused(not_your_contact) for somebody else's session or leg."""
        session = await self._store.session(session_id)
        if session is None or session.tenant != user.tenant:
            raise Refused("not_your_contact")
        if not any(s.leg.id == leg_id and s.agent_id == user.user_id for s in session.segments):
            raise Refused("not_your_contact")
        await self._offer_leg(session, ev.LegOffered(leg_id, generation, sdp))

    async def save_notes(
        self, user: AuthedUser, session_id: str, segment_id: str, notes: str, disposition_id: str | None
    ) -> None:
        await self._own(user, session_id, segment_id)
        await self._check_disposition(user.tenant, disposition_id)
        await self._stepper.apply(session_id, ev.NotesSaved(segment_id, user.user_id, notes, disposition_id))

    async def extend_wrap_up(self, user: AuthedUser, session_id: str, segment_id: str, deadline_at: int) -> Session:
        """Raises Refused: not_in_wrap_up, no_extension_left."""
        await self._own(user, session_id, segment_id)
        return await self._stepper.apply(session_id, ev.WrapUpExtended(segment_id, user.user_id, deadline_at))

    async def wrap_up(
        self, user: AuthedUser, session_id: str, segment_id: str, notes: str, disposition_id: str | None
    ) -> None:
        """Raises Refused: disposition_required, unknown_disposition, not_in_wrap_up."""
        await self._own(user, session_id, segment_id)
        await self._check_disposition(user.tenant, disposition_id)
        await self._stepper.apply(session_id, ev.WrapUpDone(segment_id, user.user_id, notes, disposition_id))

    async def vanish(self, session_id: str, segment_id: str, agent_id: str) -> None:
        """The agent's tab died while it rang."""
        try:
            await self._stepper.apply(session_id, ev.AgentVanished(segment_id, agent_id))
        except Stale:
            return

    # --- shared ---

    async def _offer_leg(self, session: Session, offer: ev.LegOffered) -> None:
        if self._leg_offers.take(offer.leg_id):
            raise Refused("rate_limited")
        await self._stepper.apply(session.id, *await self._entering(session, offer))

    async def _left(self, queue: QueueConfig, earlier: Session | None) -> Session | None:
        """What a browser that was closed left waiting ends, now that its customer is here with another one: nobody
        stands in a queue twice."""
        if earlier is None:
            return None
        if not kept_for(earlier, queue) and not (queue.life.return_s and left_behind(earlier)):
            return earlier
        try:
            return await self._stepper.apply(earlier.id, ev.CustomerHungUp())
        except Stale:
            return await self._store.session(earlier.id)

    async def _place_at(
        self, queue: QueueConfig, earlier: Session | None, session_id: str, kept_at: int | None = None
    ) -> int | None:
        """The place of a session that the customer dropped out of, or that was kept (since `kept_at`, its first
        arrival). It is had once: the first who asks gets it."""
        place_at = kept_at
        if earlier is not None and place_at is None:
            place_at = self._arrivals.place_at(queue, earlier)
        if earlier is None or place_at is None:
            return None
        try:
            await self._stepper.apply(earlier.id, ev.PlacePassedOn(session_id))
        except Stale as late:
            return place_at if late.code == "no_change" else None
        return place_at

    async def _of(self, grant: CustomerToken) -> Session:
        """Raises Refused(not_waiting) before the session has begun."""
        session = await self._store.session(grant.session_id)
        if session is None:
            raise Refused("not_waiting")
        return session

    async def _entering(self, session: Session, offer: ev.LegOffered) -> tuple[ev.Event, ...]:
        """The customer's first offer takes the session into its queue, which may be full. Who had a place in it before
        has it still."""
        if session.state is not SessionState.ARRIVING or session.place_at is not None:
            return (offer,)
        return (offer, *await self._arrivals.full(session.tenant, session.queue))

    async def _own(self, user: AuthedUser, session_id: str, segment_id: str) -> Session:
        session = await self._store.session(session_id)
        segment = session.segment(segment_id) if session is not None else None
        if session is None or segment is None or session.tenant != user.tenant or segment.agent_id != user.user_id:
            raise Refused("not_your_contact")
        return session

    async def _check_disposition(self, tenant: str, disposition_id: str | None) -> None:
        if disposition_id is not None and disposition_id not in await self._directory.disposition_ids(tenant):
            raise Refused("unknown_disposition")
