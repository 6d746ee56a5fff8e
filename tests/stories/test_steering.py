"""A supervisor steers a session that waits: its priority, what it asks, whom it prefers and whom it must not get."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.domain.directory import AuthedUser, Role
from server.domain.requirements import ANYONE, SkillLevels
from server.services.refusals import Refused
from server.services.steering import Steering, SteeringService
from tests.helpers.deployments import Deployment
from tests.helpers.world import TENANT, World, worlds

SAM = AuthedUser(TENANT, "usr_sam", "sam", "Sam", Role.SUPERVISOR, None)


@pytest.fixture
async def world(tmp_path: Path, own_or_shared: Deployment) -> AsyncIterator[World]:
    async with worlds(tmp_path, ("north",)) as (north,):
        yield north


def steering(world: World) -> SteeringService:
    return SteeringService(world.store, world.core.stepper, world.directory)


async def test_an_urgent_session_goes_first(world: World) -> None:
    first, second = await world.call(), await world.call()
    await steering(world).change(SAM, second.session_id, Steering(priority=1))
    await world.ready("ana")
    assert (await world.offered_to(first), await world.offered_to(second)) == (None, "ana")


async def test_preferred_and_excluded_agents_and_a_requirement_of_its_own(world: World) -> None:
    one, other, third = [await world.call() for _ in range(3)]
    service = steering(world)
    await service.change(SAM, one.session_id, Steering(preferred=("usr_bo",)))
    await service.change(SAM, other.session_id, Steering(excluded=("usr_ana", "usr_chen")))
    await service.change(SAM, third.session_id, Steering(asks=SkillLevels("skl_support", 1)))
    await world.ready("ana", "bo")
    assert [await world.offered_to(call) for call in (one, other, third)] == ["bo", None, None], "ana lacks Support"
    await service.change(SAM, other.session_id, Steering(excluded=()))
    await world.settle()
    assert await world.offered_to(other) == "ana"
    log = await world.rows("SELECT body FROM session_event WHERE type = 'RoutingChanged'")
    assert len(log) == 4
    assert all("usr_sam" in str(body) for (body,) in log)


async def test_what_is_left_out_stays_and_nothing_new_is_no_event(world: World) -> None:
    call, service = await world.call(), steering(world)
    await service.change(SAM, call.session_id, Steering(priority=2, excluded=("usr_ana",)))
    session = await service.change(SAM, call.session_id, Steering(asks=SkillLevels("skl_support", 3)))
    assert (session.priority, session.excluded) == (2, ("usr_ana",))
    again = await service.change(SAM, call.session_id, Steering(priority=2))
    assert again.version == session.version
    cleared = await service.change(SAM, call.session_id, Steering(asks=ANYONE, excluded=()))
    assert (cleared.asks, cleared.excluded) == ("", ())


async def test_what_can_not_be_steered(world: World) -> None:
    call, service = await world.call(), steering(world)
    for session_id, wanted, actor, code in (
        ("ses_none", Steering(priority=1), SAM, "not_found"),
        (call.session_id, Steering(priority=1), AuthedUser("other", "usr_x", "x", "X", Role.ADMIN, None), "not_found"),
        (call.session_id, Steering(preferred=("usr_nobody",)), SAM, "invalid"),
    ):
        with pytest.raises(Refused) as caught:
            await service.change(actor, session_id, wanted)
        assert caught.value.code == code
    await world.core.sessions.customer_hang_up(call)
    with pytest.raises(Refused) as caught:
        await service.change(SAM, call.session_id, Steering(priority=1))
    assert caught.value.code == "not_waiting"
