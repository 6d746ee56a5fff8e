"""Set-up as an administrator does it, over REST."""

from __future__ import annotations

from tests.helpers.scripted_agent import ScriptedAgent
from tests.helpers.system import PASSWORD, System


async def change_queue(patchbay: System, name: str = "Sales", **changes: object) -> None:
    """For example `ring_timeout_s=5`. Holds for calls that begin from now on."""
    admin = ScriptedAgent(patchbay.url, "admin", PASSWORD)
    await admin.log_in()
    queue = next(q for q in (await admin.rest("GET", "/queues"))["items"] if q["name"] == name)
    await admin.rest("PATCH", f"/queues/{queue['queue_id']}", {"version": queue["version"], **changes})
