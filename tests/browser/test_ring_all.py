"""A queue that rings all, as two agents see it: both ring, one accepts, the other reads who has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.browser import (
    AGENT_HZ,
    CUSTOMER_HZ,
    agent_page,
    agent_state,
    chromium,
    log_in,
    shop_page,
    start_call,
)
from tests.helpers.system import PASSWORD, system

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("deployment")]


async def test_both_ring_and_who_was_not_first_reads_who_has_it(tmp_path: Path) -> None:
    async with (
        system(tmp_path) as patchbay,
        chromium(tmp_path, CUSTOMER_HZ) as customers,
        chromium(tmp_path, AGENT_HZ) as agents,
    ):
        admin = await (await customers.new_context()).new_page()
        await log_in(admin, patchbay.url, "admin", PASSWORD, "/admin")
        await admin.goto(f"{patchbay.url}/admin/queues")
        await admin.get_by_role("row", name="Sales").get_by_test_id("edit").click()
        await admin.get_by_test_id("queue-strategy").select_option("ring_all")
        await admin.get_by_text("the first who accepts gets it").wait_for()
        await admin.get_by_test_id("save").click()
        await admin.get_by_test_id("queue-editor").wait_for(state="detached")

        ana = await agent_page(agents, patchbay.url, "ana", PASSWORD)
        bo = await agent_page(agents, patchbay.url, "bo", PASSWORD)
        _, widget = await shop_page(customers, patchbay.url)
        await start_call(widget, "Li Wei")
        for agent in (ana, bo):
            await agent.get_by_test_id("offer-accept").wait_for(timeout=15_000)
        await bo.get_by_test_id("offer-accept").click()
        told = ana.get_by_test_id("farewell")
        await told.get_by_text("Bo Lindqvist took it.").wait_for()
        assert "does not count against you" in await told.inner_text()
        await ana.get_by_test_id("offer-accept").wait_for(state="detached")
        await agent_state(ana, "ready")
        await bo.get_by_test_id("call-timer").wait_for()
        assert patchbay.rows("SELECT end_reason FROM segment ORDER BY accepted_at IS NULL") == [(None,), ("taken",)]
        await widget.get_by_test_id("hang-up").click()
