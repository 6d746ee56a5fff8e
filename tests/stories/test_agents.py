"""Agents' days: forced states, capacity that changes, wrap-up that is extended, microphones that fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.domain.agent import Chosen, StateForced
from server.domain.capacity import Capacity
from server.domain.machine import Refused, Stale
from server.services.tokens import CustomerToken
from tests.helpers.world import TENANT, World, world


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def talked(w: World) -> tuple[CustomerToken, str]:
    """Ana has talked and is in wrap-up, 60 s of it; the session and its segment."""
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana")
    segment = (await w.session(call)).segments[0]
    await w.core.sessions.customer_hang_up(call)
    await w.settle()
    return call, segment.id


async def test_wrap_up_is_extended_once(w: World) -> None:
    call, segment_id = await talked(w)
    deadline_at = (await w.session(call)).segments[0].wrap_up_deadline_at
    assert deadline_at is not None
    await w.after(50)
    session = await w.core.sessions.extend_wrap_up(w.user("ana"), call.session_id, segment_id, deadline_at)
    assert session.segments[0].wrap_up_deadline_at == deadline_at + 60_000
    with pytest.raises(Stale, match="no_change"):  # the answer was lost, and the wish comes again
        await w.core.sessions.extend_wrap_up(w.user("ana"), call.session_id, segment_id, deadline_at)
    with pytest.raises(Refused, match="no_extension_left"):
        await w.core.sessions.extend_wrap_up(w.user("ana"), call.session_id, segment_id, deadline_at + 60_000)
    await w.after(60)
    assert await w.agent_state("ana") == "wrap_up"
    await w.after(15)
    assert await w.agent_state("ana") == "ready"


async def test_a_queue_without_extensions_gives_none(w: World) -> None:
    sales = w.directory.queue_list[0]
    w.directory.queue_list[0] = replace(sales, routing=replace(sales.routing, wrap_up_extensions=0))
    call, segment_id = await talked(w)
    deadline_at = (await w.session(call)).segments[0].wrap_up_deadline_at
    assert deadline_at is not None
    with pytest.raises(Refused, match="no_extension_left"):
        await w.core.sessions.extend_wrap_up(w.user("ana"), call.session_id, segment_id, deadline_at)
    shown = [body["contact"]["wrap_up_extend_s"] for body in await w.pushes("usr_ana") if "contact" in body]
    assert set(shown) == {None}


async def test_the_console_is_told_what_is_left(w: World) -> None:
    call, segment_id = await talked(w)
    deadline_at = (await w.session(call)).segments[0].wrap_up_deadline_at
    assert deadline_at is not None
    await w.core.sessions.extend_wrap_up(w.user("ana"), call.session_id, segment_id, deadline_at)
    views = [body["contact"] for body in await w.pushes("usr_ana") if body["type"] == "contact.changed"]
    assert [(view["wrap_up_deadline_at"], view["wrap_up_extend_s"]) for view in views[-2:]] == [
        (deadline_at, 60),
        (deadline_at + 60_000, None),
    ]


async def test_a_microphone_that_fails_hands_the_call_on_and_comes_back(w: World) -> None:
    await w.ready("ana", "bo")
    call = await w.call()
    assert await w.offered_to(call) == "ana"
    await w.core.agents.equip(w.user("ana"), "no_microphone")
    await w.settle()
    assert await w.offered_to(call) == "bo"
    assert await w.agent_state("ana") == "ready", "nobody is to blame"
    views = [body["agent"]["fault"] for body in await w.pushes("usr_ana") if body["type"] == "agent.changed"]
    assert views[-1] == "no_microphone"
    second = await w.call()
    assert await w.offered_to(second) is None
    await w.core.agents.equip(w.user("ana"), None)
    await w.settle()
    assert await w.offered_to(second) == "ana"


async def test_the_first_in_line_stays_it_when_a_microphone_fails(w: World) -> None:
    await w.ready("ana")
    first, second = await w.call(), await w.call()
    assert await w.offered_to(first) == "ana"
    await w.core.agents.equip(w.user("ana"), "microphone_muted")
    await w.settle()
    assert (await w.offered_to(first), await w.offered_to(second)) == (None, None)
    await w.core.agents.equip(w.user("ana"), None)
    await w.settle()
    assert await w.offered_to(first) == "ana"


async def test_a_microphone_that_fails_in_a_call_ends_nothing(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana")
    await w.core.agents.equip(w.user("ana"), "no_microphone")
    await w.settle()
    assert (await w.session(call)).state == "connected"
    assert await w.agent_state("ana") == "on_contact"


async def test_what_was_not_withdrawn_at_once_is_by_the_next_look(w: World) -> None:
    """The node died between the word of the tab and the withdrawal."""
    await w.ready("ana")
    call = await w.call()
    stepper = w.core.agents._stepper
    applied = stepper.apply

    async def lost(*_: object, **__: object) -> None:
        raise Stale("no_change")

    stepper.apply = lost  # type: ignore[assignment,method-assign]  # as if it never came to it
    await w.core.agents.equip(w.user("ana"), "no_media")
    stepper.apply = applied  # type: ignore[method-assign]
    assert await w.offered_to(call) == "ana"
    await w.settle()
    assert await w.offered_to(call) is None


async def test_a_break_that_a_supervisor_forces_comes_after_the_call(w: World) -> None:
    await w.ready("ana")
    call = await w.call()
    await w.accept(call, "ana")
    forced = StateForced(Chosen.BREAK, "brk_lunch", "usr_sam", "Sam")
    await w.core.stepper.apply_agent(TENANT, "usr_ana", forced)
    assert await w.agent_state("ana") == "on_contact"
    segment = (await w.session(call)).segments[0]
    await w.core.sessions.agent_hang_up(w.user("ana"), call.session_id, segment.id)
    await w.core.sessions.wrap_up(w.user("ana"), call.session_id, segment.id, "", "dsp_sold")
    await w.settle()
    assert await w.agent_state("ana") == "break"
    told = [body["agent"] for body in await w.pushes("usr_ana") if body["type"] == "agent.changed"]
    assert [view["next_state"] and view["next_state"]["forced_by"] for view in told if view["next_state"]][-1] == "Sam"
    assert (told[-1]["forced_by"], told[-1]["reason_id"]) == ("Sam", "brk_lunch")
    assert await w.offered_to(await w.call()) is None


async def test_what_an_admin_saves_reaches_the_agent(w: World) -> None:
    await w.ready("ana")
    w.directory.profiles[0] = replace(w.directory.profiles[0], capacity=Capacity((("email", 5),)))
    await w.core.directory_changed(TENANT, "user", "usr_ana")
    call = await w.call()
    assert await w.offered_to(call) is None, "no voice any more"
    w.directory.profiles[0] = replace(w.directory.profiles[0], capacity=Capacity())
    await w.core.directory_changed(TENANT, "user", "usr_ana")
    await w.settle()
    assert await w.offered_to(call) == "ana"


async def test_users_who_were_never_agents_get_no_row(w: World) -> None:
    w.directory.profiles[1] = replace(w.directory.profiles[1], capacity=Capacity((("email", 5),)))
    await w.core.directory_changed(TENANT, "user", "usr_bo")
    await w.core.directory_changed(TENANT, "user", "usr_unknown")
    assert await w.store.agent("usr_bo") is None
