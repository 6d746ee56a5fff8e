"""A supervisor steers a session that waits, in its page, and reads there why nobody gets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.browser import AGENT_HZ, CUSTOMER_HZ, agent_page, chromium, log_in, shop_page, start_call
from tests.helpers.system import PASSWORD, system

pytestmark = pytest.mark.browser


async def test_an_agent_who_is_not_to_get_it_gets_it_when_that_is_taken_back(tmp_path: Path) -> None:
    async with (
        system(tmp_path) as patchbay,
        chromium(tmp_path, CUSTOMER_HZ) as customers,
        chromium(tmp_path, AGENT_HZ) as agents,
    ):
        _, widget = await shop_page(customers, patchbay.url)
        await start_call(widget, "Li Wei")
        await widget.get_by_test_id("queue-position").wait_for()
        ((session_id,),) = patchbay.rows("SELECT id FROM session")
        boss = await (await customers.new_context(locale="zh-CN")).new_page()
        await log_in(boss, patchbay.url, "sam", PASSWORD, "/admin")
        await boss.goto(f"{patchbay.url}/admin/sessions/{session_id}")
        await boss.get_by_test_id("steer").locator("summary").click()
        await boss.get_by_test_id("steer-priority").fill("1")
        await boss.get_by_test_id("steer-requirement").fill("english >=")
        await boss.get_by_test_id("steer-save").click()
        await boss.get_by_test_id("steer").get_by_role("alert").wait_for()
        await boss.get_by_test_id("steer-requirement").fill("english >= 3")
        await boss.get_by_test_id("steer-excluded").select_option(label="Ana Duarte")
        await boss.get_by_test_id("steer-save").click()
        await boss.get_by_text("已保存").wait_for()

        ana = await agent_page(agents, patchbay.url, "ana", PASSWORD)
        await ana.get_by_test_id("idle").wait_for()
        await boss.reload()
        decision = boss.get_by_test_id("decision")
        await decision.get_by_text("没有空闲且可接听的坐席。").wait_for()
        assert "要求：" in await decision.inner_text()
        assert "1 名被排除" in await decision.inner_text()
        await boss.get_by_test_id("steer").locator("summary").click()
        await boss.get_by_test_id("steer").get_by_role("listitem").get_by_role("button").click()
        await boss.get_by_test_id("steer-save").click()
        await ana.get_by_test_id("offer-accept").wait_for()
        await widget.get_by_test_id("hang-up").click()
