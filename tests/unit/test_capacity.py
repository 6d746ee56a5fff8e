"""What agents may hold: the two rules of `server.domain.capacity`, and that no history of an agent breaks them."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.domain import agent as ag
from server.domain.agent import Agent, Chosen, ContactState, Fault, step_agent
from server.domain.capacity import CAPACITY, CHANNELS, Capacity, capacity_from_json, capacity_to_json
from server.domain.machine import IllegalTransition, Refused, Stale
from server.storage import codec
from tests.helpers.fuzz import examples

PAIRS = [(channel, over) for channel in CHANNELS for over in CHANNELS if channel != over]
MIXED = Capacity((("voice", 1), ("chat", 3), ("email", 5)), (("voice", "email"), ("chat", "email"), ("email", "chat")))
capacities = st.builds(
    Capacity,
    st.dictionaries(st.sampled_from(CHANNELS), st.integers(1, 5)).map(lambda counts: tuple(sorted(counts.items()))),
    st.sets(st.sampled_from(PAIRS)).map(lambda pairs: tuple(sorted(pairs))),
)


@pytest.mark.parametrize(
    ("held", "more"),
    [
        ("", "voice chat email"),
        ("chat", "chat email"),
        ("chat chat chat", "email"),
        ("email", "voice chat email"),
        ("email email email email email", "voice chat"),
        ("voice", ""),
        ("voice email", ""),
        ("chat email", "chat email"),
    ],
)
def test_what_comes_on_top_of_what(held: str, more: str) -> None:
    assert MIXED.open_over(held.split()) == tuple(more.split())


def test_nothing_mixes_with_voice_unless_it_is_allowed() -> None:
    plain = Capacity((("voice", 1), ("chat", 3), ("email", 5)))
    assert plain.open_over(["voice"]) == ()
    assert plain.open_over(["email"]) == ("chat", "email")


def test_a_channel_that_is_not_named_is_not_offered() -> None:
    assert CAPACITY.open_over([]) == ("voice",)
    assert Capacity(()).open_over([]) == ()


@given(capacities)
def test_capacity_comes_back_from_json(capacity: Capacity) -> None:
    assert capacity_from_json(json.loads(json.dumps(capacity_to_json(capacity)))) == capacity
    assert capacity_to_json(CAPACITY) == {}


def ready(capacity: Capacity = CAPACITY) -> Agent:
    agent = step_agent(None, ag.AgentCreated("usr_a", "default"), 1)
    events: list[ag.AgentEvent] = [ag.WentLive(), ag.StateChosen(Chosen.READY)]
    if capacity != CAPACITY:
        events.append(ag.CapacityChanged(capacity))
    for event in events:
        agent = step_agent(agent, event, 2)
    return agent


def walk(agent: Agent, *events: ag.AgentEvent) -> Agent:
    for now, event in enumerate(events, 10):
        agent = step_agent(agent, event, now)
    return agent


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_no_history_loads_an_agent_beyond_capacity(data: st.DataObject) -> None:
    log: list[ag.AgentEvent] = [ag.AgentCreated("usr_a", "default")]
    agent = step_agent(None, log[0], 1)
    for number in range(data.draw(st.integers(0, 40))):
        held = [contact.segment_id for contact in agent.contacts] or ["seg_none"]
        event: ag.AgentEvent = data.draw(
            st.one_of(
                st.builds(ag.ContactOffered, st.just("ses_1"), st.just(f"seg_{number}"), st.sampled_from(CHANNELS)),
                st.builds(ag.ContactMoved, st.sampled_from(held), st.sampled_from(ContactState)),
                st.builds(ag.ContactReleased, st.sampled_from(held), st.booleans()),
                st.builds(ag.CapacityChanged, capacities),
                st.builds(ag.EquipmentChanged, st.sampled_from([None, *Fault])),
                st.builds(ag.StateChosen, st.sampled_from([Chosen.READY] * 3 + [*Chosen]), st.just("brk_1")),
                st.builds(
                    ag.StateForced, st.sampled_from(Chosen), st.just("brk_1"), st.just("usr_sam"), st.just("Sam")
                ),
                st.sampled_from([ag.WentLive(), ag.WentLive(), ag.WentDead()]),
            )
        )
        try:
            after = step_agent(agent, event, number + 2)
        except (Stale, Refused):
            if isinstance(event, ag.ContactOffered):
                assert event.channel not in agent.open_channels
            continue
        counts = Counter(contact.channel for contact in after.contacts)
        before = Counter(contact.channel for contact in agent.contacts)
        for channel, count in counts.items():
            assert count <= max(after.capacity.most(channel), before[channel]), "only less room leaves too many"
        if isinstance(event, ag.ContactOffered):
            assert agent.live
            assert agent.chosen is Chosen.READY
            assert not agent.missed
            assert agent.fault is None
            others = {contact.channel for contact in agent.contacts} - {event.channel}
            assert all((event.channel, other) in agent.capacity.on_top for other in others)
        agent = after
        log.append(event)
    again: Agent | None = None
    for event in log:
        kind, body = codec.AGENT_EVENTS.dump(event)
        again = step_agent(again, codec.AGENT_EVENTS.load(kind, body), 1)
    assert again is not None
    assert (again.contacts, again.capacity, again.fault) == (agent.contacts, agent.capacity, agent.fault)
    assert codec.AGENT.validate_json(codec.AGENT.dump_json(agent)) == agent


def test_a_row_of_before_there_were_channels_still_loads() -> None:
    row = json.loads(codec.AGENT.dump_json(walk(ready(), ag.ContactOffered("ses_1", "seg_1"))))
    for added in ("capacity", "fault", "forced_by"):
        del row[added]
    del row["contacts"][0]["channel"]
    old = codec.AGENT.validate_json(json.dumps(row | {"voice_capacity": 1}))
    assert old.capacity == CAPACITY
    assert [contact.channel for contact in old.contacts] == ["voice"]
    assert old.open_channels == ()


def test_who_leaves_after_this_gets_no_more() -> None:
    agent = walk(ready(MIXED), ag.ContactOffered("ses_1", "seg_1", "email"))
    assert agent.open_channels == ("voice", "chat", "email")
    leaving = walk(agent, ag.StateChosen(Chosen.BREAK, "brk_1"))
    assert leaving.open_channels == ()
    assert walk(leaving, ag.StateChosen(Chosen.READY)).open_channels == ("voice", "chat", "email")


def test_one_missed_of_several_is_made_good_before_the_others_end() -> None:
    agent = walk(ready(MIXED), ag.ContactOffered("ses_1", "seg_1", "email"), ag.ContactOffered("ses_2", "seg_2"))
    missed = walk(agent, ag.ContactReleased("seg_2", missed=True))
    assert missed.open_channels == ()
    assert walk(missed, ag.StateChosen(Chosen.READY)).open_channels == ("voice", "chat", "email")


def test_a_forced_state_tells_whose_it_is_until_the_next_choice() -> None:
    forced = walk(ready(), ag.StateForced(Chosen.BREAK, "brk_1", "usr_sam", "Sam"))
    assert (forced.state, forced.reason_id, forced.forced_by) == ("break", "brk_1", "Sam")
    assert walk(forced, ag.StateChosen(Chosen.READY)).forced_by is None


def test_a_forced_state_waits_for_the_end_of_the_contact() -> None:
    busy = walk(ready(), ag.ContactOffered("ses_1", "seg_1"), ag.ContactMoved("seg_1", ContactState.ON_CONTACT))
    forced = walk(busy, ag.StateForced(Chosen.OFFLINE, None, "usr_sam", "Sam"))
    assert (forced.state, forced.forced_by) == ("on_contact", None)
    assert forced.next_state == ag.NextState(Chosen.OFFLINE, None, "Sam")
    freed = walk(forced, ag.ContactReleased("seg_1"))
    assert (freed.state, freed.forced_by) == ("offline", "Sam")


def test_nobody_is_sent_to_work_in_an_empty_chair() -> None:
    away = walk(ready(), ag.WentDead())
    with pytest.raises(Refused, match="agent_away"):
        walk(away, ag.StateForced(Chosen.READY, None, "usr_sam", "Sam"))
    assert walk(away, ag.StateForced(Chosen.OFFLINE, None, "usr_sam", "Sam")).state == "offline"
    with pytest.raises(Refused, match="reason_required"):
        walk(ready(), ag.StateForced(Chosen.BREAK, None, "usr_sam", "Sam"))


def test_without_a_microphone_there_is_no_offer() -> None:
    deaf = walk(ready(), ag.EquipmentChanged(Fault.NO_MICROPHONE))
    assert (deaf.state, deaf.open_channels) == ("ready", ())
    assert walk(deaf, ag.EquipmentChanged(None)).open_channels == ("voice",)
    with pytest.raises(IllegalTransition):
        step_agent(None, ag.EquipmentChanged(None), 1)
