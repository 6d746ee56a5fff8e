"""`make screenshots`: every screen of the main job in both themes -> docs/screenshots (and a narrow window)."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, Page

from tests.helpers.browser import (
    AGENT_HZ,
    CUSTOMER_HZ,
    agent_state,
    chromium,
    go_ready,
    hears,
    log_in,
    start_call,
    widget_frame,
)
from tests.helpers.system import PASSWORD, ROOT, System, system

OUT = ROOT / "docs" / "screenshots"
Theme = Literal["light", "dark"]


async def take(page: Page, name: str) -> None:
    await page.screenshot(path=OUT / f"{name}.png")


async def window(browser: Browser, theme: Theme, width: int = 1280, height: int = 800) -> Page:
    context = await browser.new_context(
        permissions=["microphone"], color_scheme=theme, viewport={"width": width, "height": height}
    )
    return await context.new_page()


async def one_call(patchbay: System, customers: Browser, agents: Browser, theme: Theme) -> None:
    agent = await window(agents, theme)
    await agent.goto(f"{patchbay.url}/login")
    await take(agent, f"login-{theme}")
    await log_in(agent, patchbay.url, "ana", PASSWORD)
    await go_ready(agent)
    await take(agent, f"agent-ready-{theme}")

    shop = await window(customers, theme)
    await shop.goto(f"{patchbay.url}/demo/shop")
    await shop.get_by_test_id("widget-launcher").click()
    frame = await widget_frame(shop)
    await frame.get_by_test_id("start-call").wait_for()
    await take(shop, f"widget-start-{theme}")
    await start_call(frame, "Li Wei")
    await agent.get_by_test_id("offer-card").wait_for()
    await take(agent, f"agent-ringing-{theme}")
    await frame.get_by_test_id("hang-up").wait_for()
    await take(shop, f"widget-waiting-{theme}")
    await agent.get_by_test_id("offer-accept").click()
    await asyncio.gather(hears(agent, CUSTOMER_HZ), hears(frame, AGENT_HZ))
    await take(agent, f"agent-call-{theme}")
    await take(shop, f"widget-call-{theme}")
    await agent.set_viewport_size({"width": 400, "height": 800})
    await take(agent, f"agent-call-narrow-{theme}")
    await agent.set_viewport_size({"width": 1280, "height": 800})
    await frame.get_by_test_id("hang-up").click()
    await agent.get_by_test_id("wrap-up").wait_for()
    await take(agent, f"agent-wrap-up-{theme}")
    await take(shop, f"widget-ended-{theme}")
    await agent.get_by_test_id("disposition").select_option(index=1)
    await agent.get_by_test_id("wrap-up-done").click()
    await agent.get_by_test_id("nav-history").click()
    await agent.get_by_test_id("history-row").first.get_by_role("link").click()
    await agent.get_by_test_id("player-play").wait_for(timeout=30_000)
    await take(agent, f"agent-recording-{theme}")
    await agent.get_by_test_id("state-menu").click()
    await agent.get_by_test_id("set-offline").click()
    await agent_state(agent, "offline")
    await agent.context.close()
    await shop.context.close()


async def admin_screens(patchbay: System, browser: Browser, theme: Theme) -> None:
    page = await window(browser, theme)
    await log_in(page, patchbay.url, "admin", PASSWORD, "/admin")
    for path in ("users", "skills", "queues", "entry-points", "agents", "reports", "sessions"):
        await page.goto(f"{patchbay.url}/admin/{path}")
        await page.get_by_role("heading", level=1).first.wait_for()
        await page.wait_for_load_state("networkidle")
        await take(page, f"admin-{path}-{theme}")
    await page.context.close()


async def both_windows(patchbay: System, customers: Browser, agents: Browser) -> None:
    """The README's picture: shop and console side by side."""
    agent, shop = await window(agents, "light", 900, 640), await window(customers, "light", 900, 640)
    await log_in(agent, patchbay.url, "bo", PASSWORD)
    await go_ready(agent)
    await shop.goto(f"{patchbay.url}/demo/shop")
    await shop.get_by_test_id("widget-launcher").click()
    frame = await widget_frame(shop)
    await start_call(frame, "Li Wei")
    await agent.get_by_test_id("offer-accept").click()
    await asyncio.gather(hears(agent, CUSTOMER_HZ), hears(frame, AGENT_HZ))
    await agent.wait_for_function("() => document.querySelector('[data-testid=call-timer]').dataset.seconds >= 3")
    left, right = await shop.screenshot(), await agent.screenshot()
    board = await window(agents, "light", 1840, 680)
    await board.set_content(
        "<body style='margin:20px;display:flex;gap:20px;background:#cfd6dd'><img id=a width=890><img id=b width=890>"
    )
    for element, picture in (("a", left), ("b", right)):
        await board.evaluate(
            "([id, bytes]) => new Promise((done) => { const i = document.getElementById(id); i.onload = done;"
            " i.src = URL.createObjectURL(new Blob([new Uint8Array(bytes)], { type: 'image/png' })); })",
            [element, list(picture)],
        )
    await take(board, "call")
    await frame.get_by_test_id("hang-up").click()
    await frame.get_by_test_id("call-ended").wait_for()
    for page in (agent, shop, board):
        await page.context.close()


async def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            system(folder) as patchbay,
            chromium(folder, CUSTOMER_HZ) as customers,
            chromium(folder, AGENT_HZ) as agents,
        ):
            await both_windows(patchbay, customers, agents)
            for theme in ("light", "dark"):
                await one_call(patchbay, customers, agents, "light" if theme == "light" else "dark")
                await admin_screens(patchbay, agents, "light" if theme == "light" else "dark")


if __name__ == "__main__":
    asyncio.run(main())
