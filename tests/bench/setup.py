"""How soon a click is two-way audio, and how soon a reloaded console hears and is heard again.

`make bench-setup`. Real Chromium windows; the customer's microphone is a 440 Hz tone, the agent's 880 Hz. A side
hears when the other's tone is the loudest frequency that it receives. The console accepts as soon as it rings.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from playwright.async_api import Frame, Page

from tests.bench.report import at_most, percentile, report
from tests.helpers.browser import (
    AGENT_HZ,
    CUSTOMER_HZ,
    HEARS,
    TOLERANCE_HZ,
    agent_page,
    agent_state,
    chromium,
    shop_page,
)
from tests.helpers.rest import api
from tests.helpers.system import PASSWORD, system

ROUNDS = 25
WARM_UP = 2  # the first calls load the widget's code into the browser's cache; a visitor's page has it by then
GAP_MS = 150  # longer than a pause between two bursts of the tone
STEADY_MS = 2000

# Note, every 10 ms, whether the tone is heard: window.__heard = [[ms, heard], …] where it changes.
WATCH = f"""([hz, tolerance]) => {{
  const hears = {HEARS};
  window.__heard = [];
  clearInterval(window.__watch);
  let last = null;
  window.__watch = setInterval(() => {{
    const now = hears([hz, tolerance]);
    if (now !== last) window.__heard.push([performance.timeOrigin + performance.now(), now]);
    last = now;
  }}, 10);
}}"""
ACCEPT_AT_ONCE = """() => {
  const accept = () => document.querySelector('[data-testid=offer-accept]:not([disabled])')?.click();
  new MutationObserver(accept).observe(document.documentElement, { childList: true, subtree: true, attributes: true });
  accept();
}"""
CLICK = """(button) => { const at = performance.timeOrigin + performance.now(); button.click(); return at; }"""


async def watch(page: Page | Frame, hz: float) -> None:
    await page.evaluate(WATCH, [hz, TOLERANCE_HZ])


async def first_heard(page: Page | Frame, since_ms: float) -> float:
    """When the tone was first heard after `since_ms`."""
    found = await page.wait_for_function(
        "(since) => window.__heard?.find(([at, now]) => now && at >= since)?.[0] ?? null",
        arg=since_ms,
        timeout=30_000,
        polling=50,
    )
    return float(await found.json_value())


async def heard_again(page: Page | Frame, since_ms: float) -> float:
    """When the tone was back for good: the end of the last silence after `since_ms` that was longer than the pause
    between two bursts, once the tone has been there for STEADY_MS. `since_ms` itself when it was never away."""
    found = await page.wait_for_function(
        """([since, gap, steady]) => {
          const heard = window.__heard ?? [];
          const now = performance.timeOrigin + performance.now();
          let back = since;
          heard.forEach(([at, on], i) => {
            const until = heard[i + 1]?.[0] ?? now;
            if (!on && until >= since && until - Math.max(at, since) > gap) back = until;
          });
          // The far side may still be hearing what was sent before: a silence gets a second to begin.
          return now - Math.max(back, since + 1000) > steady ? back : null;
        }""",
        arg=[since_ms, GAP_MS, STEADY_MS],
        timeout=30_000,
        polling=50,
    )
    return float(await found.json_value())


async def click_to_audio(agent: Page, widget: Frame) -> float:
    """Seconds from the click until the slower of both sides hears the other."""
    await watch(agent, CUSTOMER_HZ)
    button = widget.get_by_test_id("start-call")
    await button.wait_for()
    await watch(widget, AGENT_HZ)
    clicked = float(await button.evaluate(CLICK))
    heard = await asyncio.gather(first_heard(agent, clicked), first_heard(widget, clicked))
    return (max(heard) - clicked) / 1000


async def reload_to_audio(agent: Page, widget: Frame) -> float:
    """Seconds from the console's reload until both hear each other again."""
    await watch(widget, AGENT_HZ)
    began = time.time() * 1000
    await agent.reload(wait_until="commit")
    await agent.wait_for_function("() => window.__patchbay !== undefined", polling=20)
    await watch(agent, CUSTOMER_HZ)
    own = await first_heard(agent, began)
    theirs = await heard_again(widget, began)
    return (max(own, theirs) - began) / 1000


async def measure(folder: Path) -> dict[str, list[float]]:
    clicks: list[float] = []
    reloads: list[float] = []
    async with (
        system(folder) as patchbay,
        chromium(folder, CUSTOMER_HZ) as customers,
        chromium(folder, AGENT_HZ) as agents,
    ):
        async with api(patchbay.url, "admin", PASSWORD) as admin:
            await admin.change_queue("Sales", wrap_up_s=0)
        agent = await agent_page(agents, patchbay.url, "ana", PASSWORD)
        await agent.evaluate(ACCEPT_AT_ONCE)
        for number in range(ROUNDS + WARM_UP):
            shop, widget = await shop_page(customers, patchbay.url)
            seconds = await click_to_audio(agent, widget)
            if number >= WARM_UP:
                clicks.append(seconds)
            if number < ROUNDS + WARM_UP - 1:
                await widget.get_by_test_id("hang-up").click()
                await widget.get_by_test_id("call-ended").wait_for()
                await agent_state(agent, "ready")
                await shop.context.close()
        for _ in range(ROUNDS):
            reloads.append(await reload_to_audio(agent, widget))
    return {"click_to_two_way_audio": clicks, "agent_reload_to_two_way_audio": reloads}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        samples = asyncio.run(measure(Path(folder)))
    clicks, reloads = samples["click_to_two_way_audio"], samples["agent_reload_to_two_way_audio"]
    figures = [
        at_most("click_to_two_way_audio_p50", percentile(clicks, 0.5), "s", 1.0),
        at_most("click_to_two_way_audio_p95", percentile(clicks, 0.95), "s", 2.0),
        at_most("agent_reload_to_two_way_audio_p95", percentile(reloads, 0.95), "s", 2.0),
    ]
    report("setup", figures, samples)


if __name__ == "__main__":
    main()
