"""An offer that can't be served, in each state that a leg can be in."""

from __future__ import annotations

import pytest

from server.domain import events as ev
from server.domain.machine import Stale
from server.domain.session import Session, derived_id
from server.domain.session_step import step

RULES = ev.QueueRules("que_1", "Sales", 20, 60, True, True)
ARRIVED = ev.CallArrived("ses_1", "default", "ept_1", RULES, ev.Customer("Li"), "media-1")
LEG = derived_id("ses_1", "leg", 0)


def after(*events: ev.Event) -> Session:
    session: Session | None = None
    for at, event in enumerate((ARRIVED, *events)):
        session = step(session, event, at)
    assert session is not None
    return session


def offered(generation: int) -> ev.LegOffered:
    return ev.LegOffered(LEG, generation, "v=0")


def refused(generation: int) -> ev.LegRefused:
    return ev.LegRefused(LEG, generation, 1, "bad_sdp")


def test_a_first_offer_that_is_refused_leaves_the_session_in_the_queue() -> None:
    session = after(offered(1), refused(1))
    assert (session.state, session.customer_leg.state, session.customer_leg.generation) == ("queued", "lost", 1)
    assert after(offered(1), refused(1), offered(2)).customer_leg.state == "opening"


def test_a_leg_that_is_up_stays_up_and_can_still_be_lost() -> None:
    before = (offered(1), ev.LegWentUp(LEG, 1, 1), offered(2), refused(2))
    assert after(*before).customer_leg.state == "up"
    assert after(*before, ev.LegWentDown(LEG, 1, 1, "dtls_closed")).customer_leg.state == "lost"
    again = after(*before, offered(3), ev.LegWentUp(LEG, 3, 1)).customer_leg
    assert (again.state, again.generation) == ("up", 3)


def test_a_refusal_that_is_overtaken_says_nothing() -> None:
    with pytest.raises(Stale):
        after(offered(1), offered(2), refused(1))
