"""What strangers reach: the widget, its frame, the pages, and the machines' questions."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from server.domain.directory import DEFAULT_TENANT, Role
from server.services.rate_limits import Rate
from server.services.seed import DEMO_KEYS
from server.services.tokens import TOKEN_HOURS
from server.signaling.pages import data_block
from server.signaling.web import WebLimits
from tests.helpers.rest_world import HOST, World, code, open_world

KEY = DEMO_KEYS["Sales"]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def test_the_widget_tells_whether_agents_are_ready(world: World) -> None:
    api = await world.browser()
    shown = await api.get(f"/api/v1/widget/{KEY}")
    assert shown == {
        "key": KEY,
        "name": "Sales widget",
        "locale_default": "en",
        "queue_name": "Sales",
        "agents_ready": True,
        "recording_notice": True,
        "open": True,
        "opens_at": None,
    }
    world.availability.ready = False
    assert not (await api.get(f"/api/v1/widget/{KEY}"))["agents_ready"]


async def test_a_closed_queue_says_when_it_opens(world: World) -> None:
    admin = await world.logged_in(Role.ADMIN)
    sales = next(q for q in (await admin.get("/api/v1/queues"))["items"] if q["name"] == "Sales")
    now = world.clock.now_ms()
    soon = (now // 60_000 + 90) % 1440
    opens, closes = (f"{minute // 60:02}:{minute % 60:02}" for minute in (soon, (soon + 60) % 1440 or 1440))
    week = [[{"opens": opens, "closes": closes}]] * 7
    life = {"hours": {"time_zone": "UTC", "week": week}}
    path = f"/api/v1/queues/{sales['queue_id']}"
    changed = await admin.patch(path, {"version": sales["version"], "life": life})
    shown = await (await world.browser()).get(f"/api/v1/widget/{KEY}")
    assert (shown["open"], shown["opens_at"]) == (False, (now // 60_000 + 90) * 60_000)
    never = {"hours": {"time_zone": "UTC", "week": [[]] * 7}}
    await admin.patch(path, {"version": changed["version"], "life": never})
    shown = await (await world.browser()).get(f"/api/v1/widget/{KEY}")
    assert (shown["open"], shown["opens_at"]) == (False, None)


async def test_a_session_begins_with_a_token(world: World) -> None:
    api = await world.browser()
    begun = await api.post("/api/v1/sessions", {"key": KEY, "locale": "zh-CN"})
    grant = world.deps.tokens.read(begun["token"])
    assert (grant.session_id, grant.tenant) == (begun["session_id"], DEFAULT_TENANT)
    assert begun["expires_at"] == grant.expires_at == world.clock.now_ms() + TOKEN_HOURS * 3_600_000
    assert (begun["ice_servers"], begun["queue_name"], begun["recording_notice"]) == ([], "Sales", True)
    assert (await api.post("/api/v1/sessions", {"key": KEY}))["session_id"] != begun["session_id"]
    assert begun["return_token"] is None, "nothing is kept in a browser that no queue asks for"


@pytest.mark.parametrize("key", ["wk_none", "wk_"])
async def test_unknown_keys(world: World, key: str) -> None:
    api = await world.browser()
    assert (await api.get(f"/api/v1/widget/{key}", 404))["error"]["code"] == "unknown_key"
    answer = await api.send("GET", f"/widget/frame?key={key}")
    assert (answer.status, answer.content_type) == (404, "text/html")
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


async def test_an_unknown_key_begins_no_session(world: World) -> None:
    api = await world.browser()
    assert (await api.post("/api/v1/sessions", {"key": "wk_none"}, 404))["error"]["code"] == "unknown_key"
    await api.post("/api/v1/sessions", {"key": "no key"}, 422)


async def test_new_sessions_are_limited_per_address_and_per_key(tmp_path: Path) -> None:
    limits = WebLimits(new_sessions=Rate(3, 60), new_sessions_per_key=Rate(4, 60))
    async with open_world(tmp_path, limits=limits, trusted_proxies=(ip_network("127.0.0.0/8"),)) as world:
        api = await world.browser()
        statuses = []
        for address in ("203.0.113.1", "203.0.113.2"):
            api.headers["X-Forwarded-For"] = f"10.9.9.9, {address}"
            for _call in range(4):
                answer = await api.send("POST", "/api/v1/sessions", {"key": KEY})
                statuses.append(answer.status)
        assert statuses == [201, 201, 201, 429, 201, 429, 429, 429]
        assert (await api.post("/api/v1/sessions", {"key": KEY}, 429))["error"]["code"] == "rate_limited"


async def test_the_frame_names_who_may_embed_it(world: World) -> None:
    api = await world.browser()
    sales = await api.send("GET", f"/widget/frame?key={KEY}")
    assert sales.status == 200
    assert "frame-ancestors 'self' https://shop.example;" in sales.headers["Content-Security-Policy"]
    admin = await world.logged_in(Role.ADMIN)
    entries = (await admin.get("/api/v1/entry-points"))["items"]
    support = next(entry for entry in entries if entry["key"] == DEMO_KEYS["Support"])
    change = {"version": 1, "allowed_sites": ["https://help.example"]}
    await admin.patch(f"/api/v1/entry-points/{support['entry_point_id']}", change)
    other = await api.send("GET", f"/widget/frame?key={support['key']}")
    assert "frame-ancestors 'self' https://help.example;" in other.headers["Content-Security-Policy"]
    window = await api.send("GET", f"/widget/call?key={KEY}")
    assert "frame-ancestors 'none'" in window.headers["Content-Security-Policy"]


async def test_shells_name_the_built_files_and_hold_no_script(world: World) -> None:
    api = await world.logged_in(Role.AGENT)
    answer = await api.send("GET", "/agent/history?x=1")
    text = await answer.text()
    assert '<script type="module" src="/static/assets/agent-abc.js">' in text
    assert '<link rel="stylesheet" href="/static/assets/core-abc.css">' in text
    assert '<link rel="modulepreload" href="/static/assets/core-abc.js">' in text
    boot = json.loads(text.split('id="boot">')[1].split("</script>")[0])
    assert (boot["me"]["login"], boot["csrf"], boot["locale"]) == ("ana", api.csrf, "en")
    policy = answer.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert f"connect-src 'self' ws://{HOST};" in policy
    assert all(re.search(r'src="|type="application/json"', tag) for tag in re.findall(r"<script[^>]*>", text))


def test_a_data_block_cannot_end_its_element() -> None:
    block = str(data_block({"name": "</script><!--<script>&amp;陈"}))
    assert "<" not in block
    assert json.loads(block) == {"name": "</script><!--<script>&amp;陈"}


async def test_pages_lead_to_the_login_and_back(world: World) -> None:
    api = await world.browser()
    for path, target in (
        ("/", "/login"),
        ("/agent", "/login?next=/agent"),
        ("/admin/users?q=a&b=//evil", "/login?next=/admin/users?q%3Da%26b%3D//evil"),
    ):
        answer = await api.send("GET", path)
        assert (answer.status, answer.headers["Location"]) == (302, target)
    for role, start in ((Role.ADMIN, "/admin"), (Role.SUPERVISOR, "/admin"), (Role.AGENT, "/agent")):
        user = await world.logged_in(role)
        assert (await user.send("GET", "/")).headers["Location"] == start
    agent = await world.logged_in(Role.AGENT)
    answer = await agent.send("GET", "/admin")
    assert (answer.status, answer.content_type) == (403, "text/html")


async def test_without_a_build_the_pages_say_what_to_do(world: World, tmp_path: Path) -> None:
    (tmp_path / "static" / ".vite" / "manifest.json").unlink()
    (tmp_path / "static" / "widget.js").unlink()
    api = await world.browser()
    answer = await api.send("GET", "/login")
    assert answer.status == 503
    assert "make run" in await answer.text()
    answer = await api.send("GET", "/widget.js")
    assert (answer.status, answer.content_type) == (503, "text/javascript")


async def test_built_files(world: World, tmp_path: Path) -> None:
    api = await world.browser()
    answer = await api.send("GET", "/static/assets/core-abc.js")
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.content_type in ("text/javascript", "application/javascript")
    (tmp_path / "secret").write_text("x")
    (tmp_path / "static" / "link").symlink_to(tmp_path / "secret")
    for path in (".vite/manifest.json", "..%2fsecret", "assets/../../secret", "link", "none", "assets", "a%00"):
        assert (await api.send("GET", f"/static/{path}")).status == 404, path


async def test_the_loader_may_be_used_by_any_site(world: World) -> None:
    api = await world.browser()
    answer = await api.send("GET", "/widget.js")
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    again = await api.send("GET", "/widget.js", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status == 304


async def test_the_demo_shop(world: World) -> None:
    api = await world.browser()
    answer = await api.send("GET", "/demo/shop")
    assert f'data-key="{KEY}"' in await answer.text()
    assert "script-src 'self';" in answer.headers["Content-Security-Policy"]
    assert (await api.send("GET", "/demo/shop.css")).content_type == "text/css"
    assert (await api.send("GET", "/demo/shop?queue=x")).status == 404
    admin = await world.logged_in(Role.ADMIN)
    for entry in (await admin.get("/api/v1/entry-points"))["items"]:
        await admin.delete(f"/api/v1/entry-points/{entry['entry_point_id']}")
    assert (await api.send("GET", "/demo/shop")).status == 404


async def test_alive_and_ready(world: World) -> None:
    api = await world.browser()
    assert (await api.get("/healthz"))["alive"]
    assert await api.get("/readyz") == {"ready": True, "missing": []}
    world.readiness.missing = ["no media worker is connected"]
    assert (await api.get("/readyz", 503))["missing"] == ["no media worker is connected"]


async def test_metrics_are_for_this_machine(world: World) -> None:
    api = await world.browser()
    await api.get("/healthz")
    text = await (await api.send("GET", "/metrics")).text()
    assert 'patchbay_http_request_seconds_count{method="GET",route="/healthz",status="200"}' in text
    answer = await api.send("GET", "/metrics", headers={"X-Forwarded-For": "203.0.113.1"})
    assert (answer.status, await code(answer)) == (403, "forbidden")


async def test_metrics_with_a_token(tmp_path: Path) -> None:
    async with open_world(tmp_path, metrics_token="t" * 20) as world:
        api = await world.browser()
        assert (await api.send("GET", "/metrics")).status == 403
        for token, status in (("t" * 20, 200), ("t" * 19, 403), ("é", 403)):
            bearer = {"Authorization": f"Bearer {token}"}
            assert (await api.send("GET", "/metrics", headers=bearer)).status == status
