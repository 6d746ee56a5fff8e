"""Redis goes away: the agent's console says that routing is paused, and when it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.helpers.browser import AGENT_HZ, agent_page, chromium
from tests.helpers.deployments import Deployment, deployed
from tests.helpers.postgres import PostgresServer
from tests.helpers.redis_server import RedisServer
from tests.helpers.system import PASSWORD, system

pytestmark = pytest.mark.browser
TOLD_S = 10.0  # 3 s without routing, and what Redis's time-outs add
GOES_ON_S = 10.0


async def test_a_console_says_that_routing_is_paused_and_when_it_goes_on(
    tmp_path: Path, postgres: PostgresServer, redis_server: RedisServer
) -> None:
    with deployed(Deployment("shared", postgres, redis_server)):
        async with system(tmp_path, workers=1) as patchbay, chromium(tmp_path, AGENT_HZ) as browser:
            page = await agent_page(browser, patchbay.url, "ana", PASSWORD)
            await page.get_by_test_id("queue-line").first.wait_for()
            line = page.get_by_test_id("queues").get_by_role("status")
            await expect(line).to_have_text("")
            redis_server.pause()
            try:
                said = "Routing is paused; calls in progress go on. New calls wait."
                await expect(line).to_have_text(said, timeout=TOLD_S * 1000)
                await page.reload()
                await expect(line).to_have_text(said, timeout=TOLD_S * 1000)
            finally:
                redis_server.resume()
            await expect(line).to_have_text("", timeout=GOES_ON_S * 1000)
            await page.get_by_test_id("queue-line").first.wait_for()
