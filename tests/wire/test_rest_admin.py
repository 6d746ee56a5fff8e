"""Setting the center up: users, skills, queues, entry points, dispositions, break reasons."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from server.domain.capacity import Capacity
from server.domain.directory import DEFAULT_TENANT, Role
from server.signaling.rest.endpoint import MAX_BODY_BYTES
from tests.helpers.rest_world import OTHER, URL, Api, World, code, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def admin(world: World) -> Api:
    return await world.logged_in(Role.ADMIN)


async def _by_name(api: Api, path: str, name: str) -> Any:
    return next(item for item in (await api.get(f"/api/v1/{path}"))["items"] if item["name"] == name)


async def test_a_user_with_a_one_time_password(world: World, admin: Api) -> None:
    skill = await _by_name(admin, "skills", "Sales")
    created = await admin.post(
        "/api/v1/users",
        {
            "login": "Dana",
            "name": " 丹娜 ",
            "role": "agent",
            "skills": [{"skill_id": skill["skill_id"], "level": 3}],
        },
    )
    password = created.pop("one_time_password")
    assert (created["login"], created["name"], created["version"]) == ("dana", "丹娜", 1)
    assert await admin.get(f"/api/v1/users/{created['user_id']}") == created
    assert (await (await world.browser()).log_in("dana", password)).status == 200
    profile = await world.deps.directory.agent(DEFAULT_TENANT, created["user_id"])
    assert profile is not None
    assert profile.level(skill["skill_id"]) == 3


async def test_logins_are_taken_across_case_and_tenants(admin: Api) -> None:
    for login in ("ana", "ANA", "boss"):
        user = {"login": login, "name": "x", "role": "agent", "password": "long enough 1"}
        answer = await admin.post("/api/v1/users", user, 409)
        assert answer["error"]["code"] == "login_taken"


@pytest.mark.parametrize(
    ("change", "loc"),
    [
        ({"login": "a b"}, "login"),
        ({"login": ""}, "login"),
        ({"name": ""}, "name"),
        ({"name": "a\u0000b"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"role": "root"}, "role"),
        ({"password": "short"}, "password"),
        ({"password": 12345678901}, "password"),
        ({"skills": [{"skill_id": "skl_none", "level": 1}]}, "skills.0.skill_id"),
        ({"skills": [{"skill_id": "skl_none", "level": 11}]}, "skills.0.level"),
        ({"capacity": {}}, "capacity.channels"),
        ({"capacity": {"channels": {"voice": 2}}}, "capacity.channels.voice"),
        ({"capacity": {"channels": {"chat": 21}}}, "capacity.channels.chat"),
        ({"capacity": {"channels": {"email": -1}}}, "capacity.channels.email"),
        ({"capacity": {"channels": {"fax": 1}}}, "capacity.channels.fax"),
        ({"capacity": {"channels": {}, "on_top": [{"channel": "fax", "over": "voice"}]}}, "capacity.on_top.0.channel"),
        ({"capacity": {"channels": {}, "on_top": [{"channel": "chat", "over": "chat"}]}}, "capacity.on_top.0.over"),
        ({"extra": 1}, "extra"),
    ],
)
async def test_users_that_do_not_fit(admin: Api, change: dict[str, Any], loc: str) -> None:
    answer = await admin.post("/api/v1/users", {"login": "d", "name": "D", "role": "agent"} | change, 422)
    assert answer["error"]["code"] == "invalid"
    assert loc in [field["loc"] for field in answer["error"]["fields"]]


async def test_what_an_agent_may_hold_at_once(world: World, admin: Api) -> None:
    user = await world.user("bo")
    path = f"/api/v1/users/{user.id}"
    texts = [{"channel": "chat", "over": "email"}, {"channel": "email", "over": "chat"}]
    before = {"channels": {"voice": 1, "chat": 0, "email": 0}, "on_top": texts}
    assert (await admin.get(path))["capacity"] == before
    wanted = {"channels": {"voice": 1, "chat": 3, "email": 5}, "on_top": [{"channel": "voice", "over": "email"}]}
    changed = await admin.patch(path, {"version": 1, "capacity": wanted})
    assert (changed["capacity"], changed["version"]) == (wanted, 2)
    assert (await admin.get(path))["capacity"] == wanted
    profile = await world.deps.directory.agent(DEFAULT_TENANT, user.id)
    assert profile is not None
    assert profile.capacity == Capacity((("voice", 1), ("chat", 3), ("email", 5)), (("voice", "email"),))
    other = {"login": "nobody", "name": "N", "role": "agent", "capacity": {"channels": {}, "on_top": []}}
    assert (await admin.post("/api/v1/users", other))["capacity"]["channels"] == {"voice": 0, "chat": 0, "email": 0}


async def test_what_was_sent_is_not_repeated(admin: Api) -> None:
    answer = await admin.post(
        "/api/v1/users", {"login": "d", "name": "D", "role": "agent", "password": ["hunter2hunter2"]}, 422
    )
    assert "hunter2" not in json.dumps(answer)


async def test_the_same_skill_twice(admin: Api) -> None:
    skill = await _by_name(admin, "skills", "Sales")
    twice = [{"skill_id": skill["skill_id"], "level": 1}] * 2
    user = {"login": "d", "name": "D", "role": "agent", "skills": twice}
    answer = await admin.post("/api/v1/users", user, 422)
    assert answer["error"]["fields"][0]["code"] == "duplicate"


async def test_an_edit_on_top_of_an_older_version_is_refused(world: World, admin: Api) -> None:
    user = await world.user("bo")
    path = f"/api/v1/users/{user.id}"
    changed = await admin.patch(path, {"version": 1, "name": "Bo L."})
    assert (changed["version"], changed["name"]) == (2, "Bo L.")
    answer = await admin.patch(path, {"version": 1, "name": "Bo"}, 409)
    assert answer["error"]["code"] == "changed_meanwhile"
    assert (await admin.get(path))["name"] == "Bo L."
    same = await admin.patch(path, {"version": 2, "name": "Bo L."})
    assert same["version"] == 2  # a change that changes nothing is none


async def test_the_last_admin_stays(world: World, admin: Api) -> None:
    user = await world.user("admin")
    path = f"/api/v1/users/{user.id}"
    for change in ({"role": "agent"}, {"active": False}):
        answer = await admin.patch(path, {"version": user.version, **change}, 409)
        assert answer["error"]["code"] == "last_admin"
    assert (await admin.delete(path, 409))["error"]["code"] == "last_admin"
    sam = await world.user("sam")
    await admin.patch(f"/api/v1/users/{sam.id}", {"version": sam.version, "role": "admin"})
    await admin.delete(path)
    await admin.get("/api/v1/me", 401)


async def test_a_deactivated_user_keeps_name_and_login(world: World, admin: Api) -> None:
    user = await world.user("bo")
    await admin.delete(f"/api/v1/users/{user.id}")
    shown = await admin.get(f"/api/v1/users/{user.id}")
    assert (shown["active"], shown["name"], shown["login"]) == (False, "Bo Lindqvist", "bo")


async def test_skills(admin: Api) -> None:
    skill = await admin.post("/api/v1/skills", {"name": "Français"})
    assert (await admin.post("/api/v1/skills", {"name": "Français"}, 409))["error"]["code"] == "name_taken"
    path = f"/api/v1/skills/{skill['skill_id']}"
    renamed = await admin.patch(path, {"version": 1, "name": "French"})
    assert renamed == {"skill_id": skill["skill_id"], "name": "French", "version": 2}
    assert (await admin.patch(path, {"version": 2, "name": "Sales"}, 409))["error"]["code"] == "name_taken"
    await admin.delete(path)
    assert (await admin.delete(path, 404))["error"]["code"] == "not_found"


async def test_a_skill_in_use_says_where(admin: Api) -> None:
    skill = await _by_name(admin, "skills", "Sales")
    answer = await admin.delete(f"/api/v1/skills/{skill['skill_id']}", 409)
    assert answer["error"]["code"] == "in_use"
    where = {(item["kind"], item["name"]) for item in answer["error"]["where"]}
    assert where == {("queue", "Sales"), ("user", "Ana Duarte"), ("user", "Bo Lindqvist")}


LIFE = {
    "max_wait_s": 0,
    "max_length": 0,
    "overflow_queue_id": None,
    "return_s": 0,
    "keep_place_s": 0,
    "hours": None,
    "exit": "end",
    "pause_limit_s": 600,
    "when_unrecorded": "go_on",
    "park_limit_s": 120,
}
ROUTING = {
    "strategy": "longest_idle",
    "requirement": "",
    "steps": [],
    "priority": 5,
    "grow_s": 0,
    "weight": 10,
    "sticky_s": 0,
    "time_zone": "UTC",
    "wrap_up_extend_s": 60,
    "wrap_up_extensions": 1,
}


async def test_a_queue_from_defaults_to_deactivation(world: World, admin: Api) -> None:
    queue = await admin.post("/api/v1/queues", {"name": "Night"})
    assert queue | {"queue_id": "", "version": 0} == {
        "queue_id": "",
        "name": "Night",
        "skills": [],
        "ring_timeout_s": 20,
        "wrap_up_s": 60,
        "disposition_required": True,
        "record": True,
        "service_level_s": 20,
        "life": LIFE,
        "routing": ROUTING,
        "active": True,
        "version": 0,
        "warnings": [],
    }
    path = f"/api/v1/queues/{queue['queue_id']}"
    skill = await _by_name(admin, "skills", "English")
    needs = [{"skill_id": skill["skill_id"], "min_level": 7}]
    changed = await admin.patch(path, {"version": 1, "skills": needs, "wrap_up_s": 0, "record": False})
    assert (changed["skills"], changed["wrap_up_s"], changed["record"]) == (needs, 0, False)
    config = await world.deps.directory.queue(DEFAULT_TENANT, queue["queue_id"])
    assert config is not None
    chen = await world.deps.directory.agent(DEFAULT_TENANT, (await world.user("chen")).id)
    ana = await world.deps.directory.agent(DEFAULT_TENANT, (await world.user("ana")).id)
    assert chen is not None
    assert ana is not None
    assert (config.serves(ana), config.serves(chen)) == (True, False)
    await admin.delete(path)
    assert not (await admin.get(path))["active"]
    await admin.post("/api/v1/queues", {"name": "Night"})  # the name is free again


@pytest.mark.parametrize("change", [{"ring_timeout_s": 4}, {"wrap_up_s": 601}, {"record": "yes"}, {"skills": None}])
async def test_queues_that_do_not_fit(admin: Api, change: dict[str, Any]) -> None:
    answer = await admin.post("/api/v1/queues", {"name": "q"} | change, 422)
    assert answer["error"]["code"] == "invalid"


async def test_how_a_queue_routes(world: World, admin: Api) -> None:
    steps = [{"after_s": 30, "requirement": "english"}, {"after_s": 60, "requirement": "anyone"}]
    asked = {"strategy": "best_skill", "requirement": "ENGLISH >= 5 and (sales or support)", "steps": steps}
    queue = await admin.post("/api/v1/queues", {"name": "Night", "routing": asked | {"time_zone": "Europe/Lisbon"}})
    shown = ROUTING | asked | {"requirement": "English >= 5 and (Sales or Support)", "time_zone": "Europe/Lisbon"}
    shown["steps"] = [{"after_s": 30, "requirement": "English"}, {"after_s": 60, "requirement": ""}]
    assert queue["routing"] == shown
    path = f"/api/v1/queues/{queue['queue_id']}"
    english = await _by_name(admin, "skills", "English")
    await admin.patch(f"/api/v1/skills/{english['skill_id']}", {"version": 1, "name": "British English"})
    assert (await admin.get(path))["routing"]["requirement"] == '"British English" >= 5 and (Sales or Support)'
    config = await world.deps.directory.queue(DEFAULT_TENANT, queue["queue_id"])
    ana = await world.deps.directory.agent(DEFAULT_TENANT, (await world.user("ana")).id)
    assert config is not None
    assert ana is not None
    assert config.serves(ana)
    changed = await admin.patch(path, {"version": 1, "routing": {"weight": 20}})
    assert changed["routing"] == ROUTING | {"weight": 20}
    listed = await _by_name(admin, "queues", "Night")
    assert (listed["routing"], listed["warnings"]) == (ROUTING | {"weight": 20}, None)


async def test_a_skill_that_a_requirement_names_is_in_use(admin: Api) -> None:
    skill = await admin.post("/api/v1/skills", {"name": "Juggling"})
    queue = await admin.post("/api/v1/queues", {"name": "Circus", "routing": {"requirement": "juggling >= 3"}})
    assert queue["warnings"] == [{"code": "skill_nobody_has", "step": 0, "skill": "Juggling", "level": 3}]
    answer = await admin.delete(f"/api/v1/skills/{skill['skill_id']}", 409)
    assert answer["error"]["where"] == [{"kind": "queue", "name": "Circus"}]
    path = f"/api/v1/queues/{queue['queue_id']}"
    queue = await admin.patch(path, {"version": 1, "routing": {"requirement": "sales and not sales"}})
    assert queue["warnings"] == [{"code": "nobody_fits", "step": 0, "skill": None, "level": None}]
    await admin.delete(f"/api/v1/skills/{skill['skill_id']}")


@pytest.mark.parametrize(
    ("routing", "loc", "code", "says"),
    [
        ({"requirement": "sales >= "}, "routing.requirement", "unexpected", "column 10: expected a level from 1 to 10"),
        ({"requirement": "sales and flying"}, "routing.requirement", "unknown_skill", "column 11: there is no skill"),
        ({"requirement": "sales or " * 80}, "routing.requirement", "string_too_long", ""),
        (
            {"steps": [{"after_s": 30, "requirement": "(sales"}]},
            "routing.steps.0.requirement",
            "unexpected",
            "column 7: expected ')'",
        ),
        (
            {"steps": [{"after_s": 30, "requirement": ""}, {"after_s": 30, "requirement": ""}]},
            "routing.steps.1.after_s",
            "not_ascending",
            "later",
        ),
        ({"strategy": "dice"}, "routing.strategy", "enum", ""),
        ({"weight": 101}, "routing.weight", "less_than_equal", ""),
        ({"time_zone": "Mars/Olympus"}, "routing.time_zone", "unknown_time_zone", ""),
        ({"time_zone": "../etc"}, "routing.time_zone", "unknown_time_zone", ""),
    ],
)
async def test_routing_that_makes_no_sense(admin: Api, routing: dict[str, Any], loc: str, code: str, says: str) -> None:
    answer = await admin.post("/api/v1/queues", {"name": "Odd", "routing": routing}, 422)
    (field,) = answer["error"]["fields"]
    assert (field["loc"], says in field["message"]) == (loc, True), field
    assert field["code"] == code


async def test_a_queue_that_an_entry_point_leads_to_is_in_use(admin: Api) -> None:
    queue = await _by_name(admin, "queues", "Sales")
    answer = await admin.delete(f"/api/v1/queues/{queue['queue_id']}", 409)
    assert answer["error"]["code"] == "in_use"
    assert answer["error"]["where"] == [{"kind": "entry_point", "name": "Sales widget"}]


async def test_entry_points(world: World, admin: Api) -> None:
    queue = await _by_name(admin, "queues", "Support")
    sites = ["https://Shop.Example", "http://localhost:3000/", "https://münchen.example", "https://shop.example"]
    entry = await admin.post(
        "/api/v1/entry-points",
        {"name": "Site", "kind": "widget", "queue_id": queue["queue_id"], "allowed_sites": sites},
    )
    assert entry["allowed_sites"] == [
        "https://shop.example",
        "http://localhost:3000",
        "https://xn--mnchen-3ya.example",
    ]
    assert entry["key"].startswith("wk_")
    assert entry["embed_code"] == f'<script async src="{URL}/widget.js" data-key="{entry["key"]}"></script>'
    path = f"/api/v1/entry-points/{entry['entry_point_id']}"
    await admin.patch(path, {"version": 1, "allowed_sites": []})
    assert (await admin.get(f"/api/v1/widget/{entry['key']}"))["queue_name"] == "Support"
    await admin.delete(path)
    assert (await admin.get(f"/api/v1/widget/{entry['key']}", 404))["error"]["code"] == "unknown_key"


@pytest.mark.parametrize(
    "site",
    [
        "shop.example",
        "https://shop.example/path",
        "https://a.example; script-src *",
        "https://*.example",
        "https://a.example https://b.example",
        "javascript:alert(1)",
        "https://user@shop.example",
        "https://shop.example:99999",
        "*",
        "https://",
    ],
)
async def test_sites_that_are_no_origins(admin: Api, site: str) -> None:
    queue = await _by_name(admin, "queues", "Support")
    body = {"name": "Site", "queue_id": queue["queue_id"], "allowed_sites": [site]}
    answer = await admin.post("/api/v1/entry-points", body, 422)
    assert answer["error"]["fields"][0]["loc"] == "allowed_sites.0"


async def test_an_entry_point_needs_an_active_queue(world: World, admin: Api) -> None:
    queue = await admin.post("/api/v1/queues", {"name": "Night"})
    entry = await admin.post("/api/v1/entry-points", {"name": "Night", "queue_id": queue["queue_id"]})
    await admin.delete(f"/api/v1/entry-points/{entry['entry_point_id']}")
    await admin.delete(f"/api/v1/queues/{queue['queue_id']}")
    for answer in (
        await admin.post("/api/v1/entry-points", {"name": "N", "queue_id": queue["queue_id"]}, 422),
        await admin.patch(f"/api/v1/entry-points/{entry['entry_point_id']}", {"version": 2, "active": True}, 422),
    ):
        assert answer["error"]["fields"][0]["code"] == "unknown_queue"


@pytest.mark.parametrize(
    ("noun", "id_name"), [("dispositions", "disposition_id"), ("break-reasons", "break_reason_id")]
)
async def test_labels_are_in_order(admin: Api, noun: str, id_name: str) -> None:
    path = f"/api/v1/{noun}"
    before = (await admin.get(path))["items"]
    last = await admin.post(path, {"name": "Last"})
    assert last["position"] == before[-1]["position"] + 1
    await admin.patch(f"{path}/{last[id_name]}", {"version": 1, "position": 0})
    assert (await admin.get(path))["items"][0]["name"] == "Last"
    await admin.delete(f"{path}/{last[id_name]}")
    assert not (await admin.get(path))["items"][0]["active"]
    again = await admin.post(path, {"name": "Last"})
    answer = await admin.patch(f"{path}/{last[id_name]}", {"version": 3, "active": True}, 409)
    assert answer["error"]["code"] == "name_taken"
    assert again["active"]


@pytest.mark.parametrize("path", ["users", "skills", "queues", "dispositions"])
async def test_lists_come_in_pages(admin: Api, path: str) -> None:
    whole = (await admin.get(f"/api/v1/{path}?limit=200"))["items"]
    found: list[Any] = []
    query = "limit=2"
    while True:
        page = await admin.get(f"/api/v1/{path}?{query}")
        assert len(page["items"]) <= 2
        found += page["items"]
        if page["next"] is None:
            break
        query = f"limit=2&cursor={page['next']}"
    assert found == whole


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "cursor=%00",
        "cursor=bm9wZQ==",
        "limit=1&limit=2",
        "colour=red",
        "cursor=WzEsMl0=",
    ],
)
async def test_queries_that_do_not_fit(admin: Api, query: str) -> None:
    assert (await admin.get(f"/api/v1/users?{query}", 422))["error"]["code"] == "invalid"


async def test_another_tenants_rows_do_not_exist(world: World, admin: Api) -> None:
    boss = await world.browser()
    assert (await boss.log_in("boss")).status == 200
    queue = (await boss.get("/api/v1/queues"))["items"][0]["queue_id"]
    skill = (await boss.get("/api/v1/skills"))["items"][0]["skill_id"]
    entry = (await boss.get("/api/v1/entry-points"))["items"][0]["entry_point_id"]
    user = (await boss.get("/api/v1/me"))["user_id"]
    for method, path, body in (
        ("GET", f"users/{user}", None),
        ("PATCH", f"users/{user}", {"version": 1, "name": "x"}),
        ("DELETE", f"users/{user}", None),
        ("POST", f"users/{user}/password", {}),
        ("GET", f"queues/{queue}", None),
        ("PATCH", f"queues/{queue}", {"version": 1, "name": "x"}),
        ("DELETE", f"queues/{queue}", None),
        ("PATCH", f"skills/{skill}", {"version": 1, "name": "x"}),
        ("DELETE", f"skills/{skill}", None),
        ("PATCH", f"entry-points/{entry}", {"version": 1, "name": "x"}),
        ("DELETE", f"entry-points/{entry}", None),
    ):
        answer = await admin.send(method, f"/api/v1/{path}", body)
        assert (answer.status, await code(answer)) == (404, "not_found"), path
    borrowed = {"name": "q", "skills": [{"skill_id": skill, "min_level": 1}]}
    await admin.post("/api/v1/queues", borrowed, 422)
    await admin.post("/api/v1/entry-points", {"name": "e", "queue_id": queue}, 422)
    async with world.changes.repository.reading() as transaction:
        assert OTHER not in {
            row.tenant for row in await transaction.page(type(await world.user("ana")), DEFAULT_TENANT, 99)
        }


async def test_changes_are_audited_and_told_after_the_commit(world: World, admin: Api) -> None:
    skill = await admin.post("/api/v1/skills", {"name": "Dutch"})
    await admin.patch(f"/api/v1/skills/{skill['skill_id']}", {"version": 1, "name": "Nederlands"})
    user = await world.user("ana")
    await admin.post(f"/api/v1/users/{user.id}/password", {}, 200)
    async with world.engine.connect() as connection:
        query = (
            "SELECT actor_id, action, kind, target_id, detail FROM audit_log WHERE action != 'logged_in' ORDER BY id"
        )
        rows = [tuple(row) for row in await connection.execute(sa.text(query))][-3:]
    admin_id = (await world.user("admin")).id
    assert rows == [
        (admin_id, "created", "skill", skill["skill_id"], '{"name": "Dutch"}'),
        (admin_id, "changed", "skill", skill["skill_id"], '{"name": ["Dutch", "Nederlands"]}'),
        (admin_id, "password_reset", "user", user.id, "{}"),
    ]
    assert world.told == [
        (DEFAULT_TENANT, "skill", skill["skill_id"]),
        (DEFAULT_TENANT, "skill", skill["skill_id"]),
        (DEFAULT_TENANT, "user", user.id),
    ]


async def test_a_listener_that_fails_undoes_nothing(world: World, admin: Api) -> None:
    async def broken(_tenant: str, _kind: str, _record_id: str) -> None:
        raise RuntimeError("routing is away")

    world.changes._listeners = (broken, *world.changes._listeners)
    await admin.post("/api/v1/skills", {"name": "Dutch"})
    assert len(world.told) == 1


async def test_bodies_that_are_no_json_bodies(admin: Api) -> None:
    path = "/api/v1/skills"
    answer = await admin.send("POST", path, headers={"Content-Type": "text/plain"}, data="{}")
    assert (answer.status, await code(answer)) == (415, "unsupported_media_type")
    for raw in ("", "{", "[" * 100_000, '{"name": NaN}', '{"name": "\\ud800"}', "[]", "null", '"x"'):
        answer = await admin.send("POST", path, headers={"Content-Type": "application/json"}, data=raw)
        assert (answer.status, await code(answer)) == (422, "invalid"), raw[:20]
    big = json.dumps({"name": "x" * MAX_BODY_BYTES})
    answer = await admin.send("POST", path, headers={"Content-Type": "application/json"}, data=big)
    assert (answer.status, await code(answer)) == (413, "too_large")
    damaged = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = await admin.send("POST", path, headers=damaged, data=b"no gzip")
    assert answer.status in (400, 422)


async def test_ids_that_are_none(admin: Api) -> None:
    for part in ("%00", "a" * 65, "..%2f..", "%E4%B8%AD", "'%20OR%201"):
        answer = await admin.send("GET", f"/api/v1/users/{part}")
        assert (answer.status, await code(answer)) == (404, "not_found"), part
