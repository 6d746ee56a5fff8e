"""What an admin sets of a queue's routing counts at the next offer, and everybody can read why."""

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


async def test_a_requirement_is_set_and_the_decision_is_explained(tmp_path: Path) -> None:
    async with (
        system(tmp_path) as patchbay,
        chromium(tmp_path, CUSTOMER_HZ) as customers,
        chromium(tmp_path, AGENT_HZ) as agents,
    ):
        admin = await (await customers.new_context()).new_page()
        await log_in(admin, patchbay.url, "admin", PASSWORD, "/admin")
        await admin.goto(f"{patchbay.url}/admin/queues")
        await admin.get_by_role("row", name="Sales").get_by_test_id("edit").click()
        await admin.get_by_test_id("queue-editor").wait_for()
        requirement = admin.get_by_test_id("queue-requirement")
        await requirement.fill("english >= 9 and (sales or")
        await admin.get_by_test_id("save").click()
        fault = admin.get_by_test_id("queue-routing").get_by_text("column 27: expected a skill")
        await fault.wait_for()
        await requirement.fill("sales and not english")
        await admin.get_by_test_id("queue-strategy").select_option("best_skill")
        await admin.get_by_role("button", name="Relax with waiting time").click()
        await admin.get_by_test_id("queue-step-0-after").fill("3")
        await admin.get_by_test_id("queue-step-0").fill("sales")
        await admin.get_by_test_id("save").click()
        await admin.get_by_text("Nobody meets the whole of what this queue asks for.").wait_for()
        await admin.get_by_test_id("queue-editor").wait_for(state="detached")

        ana = await agent_page(agents, patchbay.url, "ana", PASSWORD)
        await agent_state(ana, "ready")
        _, widget = await shop_page(customers, patchbay.url)
        await start_call(widget, "Li Wei")
        await ana.get_by_test_id("offer-accept").click(timeout=15_000)  # after the step, for she speaks English
        await ana.get_by_test_id("call-timer").wait_for()
        ((session_id, talk),) = patchbay.rows("SELECT id, talk_started_at - created_at FROM session")
        assert talk >= 3_000
        await admin.goto(f"{patchbay.url}/admin/sessions/{session_id}")
        decision = admin.get_by_test_id("decision").first
        await decision.get_by_text("Ana Duarte was chosen").wait_for()
        assert "of waiting: Sales." in await decision.inner_text()
        await widget.get_by_test_id("hang-up").click()
