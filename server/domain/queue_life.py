"""What may happen to a session in a queue other than being answered: what admins set, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from server.domain.hours import Hours, hours_from_json, hours_to_json
from server.domain.setting import whole


class Exit(StrEnum):
    """Where a session goes that its queue gives up. What can't be done for it (no number is known) is left out: then it
    goes to the other queue where there is one, or ends."""

    QUEUE = "queue"  # the other queue; without one, the end
    CALLBACK = "callback"  # it waits on, and its customer is called when its turn comes
    VOICEMAIL = "voicemail"  # the customer may leave a message


class WhenUnrecorded(StrEnum):
    """What becomes of a talk that is to be recorded when its recording fails: a full disk, say."""

    GO_ON = "go_on"  # the agent sees that it is not recorded
    END = "end"  # for centers that must not speak unrecorded


PAUSE_LIMIT_S = 600  # a card payment takes one to three minutes; a pause that was forgotten costs ten at most

PARK_LIMIT_S = 120  # long enough to walk to a colleague; longer on hold customers hang up


@dataclass(frozen=True, slots=True)
class QueueLife:
    """Who waits longer than `max_wait_s`, or finds `max_length` waiting already, leaves by the `exit`, to the queue
    `overflow_queue_id`, or is told so and the call ends where that is None. 0: no such limit. Who drops out
    while waiting and is back within `return_s` has the old place. Who says so may be away for `keep_place_s` and is
    served in turn; 0: that is not offered. `hours` None: always open. A pause of a recording ends by itself after
    `pause_limit_s`; 0: never. A parked session that nobody fetches within `park_limit_s` waits in its queue again."""

    max_wait_s: int = 0
    max_length: int = 0
    overflow_queue_id: str | None = None
    return_s: int = 0
    keep_place_s: int = 0
    hours: Hours | None = None
    exit: Exit = Exit.QUEUE
    pause_limit_s: int = PAUSE_LIMIT_S
    when_unrecorded: WhenUnrecorded = WhenUnrecorded.GO_ON
    park_limit_s: int = PARK_LIMIT_S


LIFE = QueueLife()


def life_to_json(life: QueueLife) -> dict[str, object]:
    """What differs from the defaults, so that an old row and a new one read alike."""
    whole: dict[str, object] = {
        "max_wait_s": life.max_wait_s,
        "max_length": life.max_length,
        "overflow_queue_id": life.overflow_queue_id,
        "return_s": life.return_s,
        "keep_place_s": life.keep_place_s,
        "hours": None if life.hours is None else hours_to_json(life.hours),
    }
    if life.exit is not Exit.QUEUE:  # a node of before there were others reads the rest
        whole["exit"] = life.exit.value
    if life.when_unrecorded is not WhenUnrecorded.GO_ON:
        whole["when_unrecorded"] = life.when_unrecorded.value
    if life.park_limit_s != PARK_LIMIT_S:
        whole["park_limit_s"] = life.park_limit_s
    found = {name: value for name, value in whole.items() if value}
    return found if life.pause_limit_s == PAUSE_LIMIT_S else found | {"pause_limit_s": life.pause_limit_s}


def life_from_json(value: Mapping[str, Any]) -> QueueLife:
    if not value:
        return LIFE
    hours = value.get("hours")
    return QueueLife(
        max_wait_s=whole(value.get("max_wait_s", 0)),
        max_length=whole(value.get("max_length", 0)),
        overflow_queue_id=value.get("overflow_queue_id"),
        return_s=whole(value.get("return_s", 0)),
        keep_place_s=whole(value.get("keep_place_s", 0)),
        hours=None if hours is None else hours_from_json(hours),
        exit=Exit(value.get("exit", Exit.QUEUE)),
        pause_limit_s=whole(value.get("pause_limit_s", PAUSE_LIMIT_S)),
        when_unrecorded=WhenUnrecorded(value.get("when_unrecorded", WhenUnrecorded.GO_ON)),
        park_limit_s=whole(value.get("park_limit_s", PARK_LIMIT_S)),
    )
