"""What deploy/ hands out is taken by the programs it is for, and does what docs/operations.md says."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from server.config import describe
from tests.helpers.certificates import make_certificate
from tests.helpers.cluster import HAPROXY, Part, answers, cluster
from tests.helpers.customer import Customer
from tests.helpers.database import PostgresDatabase
from tests.helpers.postgres import PostgresServer
from tests.helpers.redis_server import RedisServer
from tests.helpers.scripted_agent import ScriptedAgent
from tests.helpers.system import PASSWORD, ROOT, clean_environment, free_port, until

DEPLOY = ROOT / "deploy"
TURNED_AWAY_S = 4.0
GONE_S = 60.0  # what the product promises


def haproxy_for(folder: Path, port: int, control_ports: list[int], *, tls: bool, figures: int = 0) -> Path:
    """deploy/haproxy/patchbay.cfg with this machine's ports; without TLS for clients that know no authority of ours."""
    text = (DEPLOY / "haproxy/patchbay.cfg").read_text()
    certificate = make_certificate(folder / "haproxy-tls", "127.0.0.1")
    both = folder / "both.pem"
    both.write_bytes(certificate.cert.read_bytes() + certificate.key.read_bytes())
    https = f"bind 127.0.0.1:{port}" + (f" ssl crt {both} alpn h2,http/1.1" if tls else "")
    changes = [
        (r"bind :443 ssl crt \S+ alpn h2,http/1.1", https),
        (r"bind :80\b", f"bind 127.0.0.1:{free_port()}"),
        (r"127\.0\.0\.1:8404", f"127.0.0.1:{figures or free_port()}"),
        (r"(?m)^    server control-a .*$", f"    server control-a 127.0.0.1:{control_ports[0]}"),
        (r"(?m)^    server control-b .*$", f"    server control-b 127.0.0.1:{control_ports[1]}"),
        # For the tests to see which one answered.
        (r"(?m)^backend control\n", "backend control\n    http-response set-header X-Server %s\n"),
    ]
    for found, new in changes:
        text, count = re.subn(found, new, text)
        assert count == 1, found
    if not tls:
        text = text.replace("http-request set-header X-Forwarded-Proto https", "")
    path = folder / "haproxy-deployed.cfg"
    path.write_text(text)
    return path


def test_haproxy_takes_its_configuration(tmp_path: Path) -> None:
    path = haproxy_for(tmp_path, free_port(), [free_port(), free_port()], tls=True)
    done = subprocess.run(["haproxy", "-c", "-f", str(path)], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr


def test_every_setting_that_is_handed_out_exists() -> None:
    known = {name for name, _, _ in describe()}
    files = [path for path in DEPLOY.rglob("*") if path.is_file()]
    named = {
        path: set(re.findall(r"\bPATCHBAY_[A-Z_]+[A-Z]\b", path.read_text())) - {"PATCHBAY_CONFIG"} for path in files
    }
    wrong = {str(path.relative_to(DEPLOY)): names - known for path, names in named.items() if names - known}
    assert not wrong
    assert sum(len(names) for names in named.values()) > 20


@pytest.mark.parametrize("unit", ["patchbay-control.service", "patchbay-media@.service"])
def test_units_give_a_drain_its_time_and_are_well_formed(unit: str) -> None:
    lines = [line for line in (DEPLOY / "systemd" / unit).read_text().splitlines() if line and line[0] not in "#["]
    values = dict(line.split("=", 1) for line in lines)
    assert int(values["TimeoutStopSec"]) >= GONE_S
    assert values["KillSignal"] == "SIGTERM"
    assert values["Restart"] == "always"
    assert values["StartLimitIntervalSec"] == "0", "a database that is late at boot must not end it for good"
    assert "RestartPreventExitStatus" not in values
    assert values["ExecStart"].split()[1:3] == ["serve", "--role"]


def test_the_wheel_runs_on_its_own(tmp_path: Path) -> None:
    """Away from the source tree: web apps, templates, prompts, Redis scripts and migrations come along."""
    source, wheels, away = tmp_path / "source", tmp_path / "wheels", tmp_path / "away"
    for folder in ("server", "migrations"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "-w", str(wheels), str(source)], check=True, timeout=60)
    (wheel,) = wheels.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for kind in (
        "server/static/widget.js", "server/static/assets/", "server/routing/scripts/claim.lua", "server/media/prompts/",
        "server/signaling/templates/", "server/storage/migrations/env.py", "server/storage/migrations/versions/",
    ):  # fmt: skip
        assert any(name.startswith(kind) for name in names), kind
    assert not [name for name in names if not name.startswith(("server/", "patchbay-"))]
    venv.create(away, symlinks=True)
    (site,) = away.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    # What it depends on is taken from here: a test downloads nothing. A folder named in a .pth file comes last.
    (site / "needs.pth").write_text(sysconfig.get_paths()["purelib"])
    program = [str(away / "bin/python"), "-m", "server"]
    environment = clean_environment({"data_dir": str(tmp_path / "data")})
    for arguments in (["--version"], ["migrate"], ["seed"]):
        done = subprocess.run(
            [*program, *arguments], cwd=away, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    where = subprocess.check_output([program[0], "-c", "import server; print(server.__file__)"], cwd=away, text=True)
    assert where.startswith(str(site))


@asynccontextmanager
async def nodes_that_answer_anything(folder: Path) -> AsyncIterator[str]:
    """HAProxy's address, before two servers that say 200 to whatever reaches them."""

    async def reached(request: web.Request) -> web.Response:
        return web.Response(text=f"reached {request.raw_path}")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", reached)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        ports = [free_port(), free_port()]
        for port in ports:
            await web.TCPSite(runner, "127.0.0.1", port).start()
        port = free_port()
        path = haproxy_for(folder, port, ports, tls=False)
        proxy = Part(HAPROXY, ["haproxy", "-f", str(path), "-db"], clean_environment({}), folder / "haproxy.log")
        await proxy.start()
        try:
            url = f"http://127.0.0.1:{port}"
            await until(lambda: answers(url, "/"), 10, f"{url}\n{proxy.log.read_text()}")
            yield url
        finally:
            await proxy.stop()
    finally:
        await runner.cleanup()


async def test_what_operators_read_does_not_pass_haproxy(tmp_path: Path) -> None:
    async with nodes_that_answer_anything(tmp_path) as url, aiohttp.ClientSession() as http:

        async def status(path: str) -> int:
            async with http.get(URL(url + path, encoded=True)) as response:
                return response.status

        spellings = ("/{}", "/{}/", "//{}", "/./{}", "/{}?all=1", "/{}#x", "/%2f{}")
        names = ("metrics", "readyz", "%6detrics", "ready%7a", "%6D%65trics", "Metrics")
        wrong = {path: await status(path) for name in names for path in (one.format(name) for one in spellings)}
        assert set(wrong.values()) == {403}, {path: code for path, code in wrong.items() if code != 403}
        for path in ("/", "/healthz", "/login", "/admin/metrics", "/api/v1/readyz", "/metrics.js"):
            assert await status(path) == 200, path


async def last_new(url: str, server: str, during: asyncio.Task[float]) -> tuple[float, int]:
    """(when the last new request came to a server, s from now; how many were made) until the task ends.
    Requests that are lost on the way fail the test: HAProxy is to ask the other node."""
    began, last, asked = time.monotonic(), 0.0, 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        while not during.done():
            async with http.get(url + "/healthz") as response:
                assert response.status == 200, await response.text()
                asked += 1
                if response.headers["X-Server"] == server:
                    last = time.monotonic() - began
            await asyncio.sleep(0.05)  # the interval of asking, not a wait for anything
    return last, asked


async def both_up(figures: int) -> bool:
    """Whether HAProxy takes both control nodes for ready, as its own metrics say."""
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{figures}/metrics") as response:
        told = await response.text()
    return all(
        re.search(rf'haproxy_server_status{{proxy="control",server="{name}",state="UP"}} 1\b', told)
        for name in ("control-a", "control-b")
    )


async def test_a_node_that_is_told_to_stop_lets_its_people_move(
    tmp_path: Path, postgres: PostgresServer, redis_server: RedisServer
) -> None:
    """Behind the HAProxy that is handed out, with a call: nobody new comes, who is there moves, the sound stays."""
    url = await postgres.database()
    redis_server.flush()
    settings = {"database_url": url, "redis_url": redis_server.url}
    async with cluster(tmp_path, PostgresDatabase(url), settings=settings) as patchbay:
        proxy = patchbay.parts[HAPROXY]
        await proxy.stop()
        ports = [int(node.rsplit(":", 1)[1]) for node in patchbay.node_urls]
        figures = free_port()
        path = haproxy_for(tmp_path, int(patchbay.url.rsplit(":", 1)[1]), ports, tls=False, figures=figures)
        patchbay.parts[HAPROXY] = Part(HAPROXY, ["haproxy", "-f", str(path), "-db"], clean_environment({}), proxy.log)
        await patchbay.parts[HAPROXY].start()
        await patchbay.ready()
        async with ScriptedAgent(patchbay.url, "ana", PASSWORD, auto_accept=True) as agent:
            await agent.set_state("ready")
            customer = Customer(patchbay)
            await customer.begin()
            contact = await agent.contact("talking")
            assert agent.peer is not None
            assert customer.peer is not None
            await asyncio.gather(customer.peer.wait_tone(880), agent.peer.wait_tone(440))
            # One of them holds the customer, one the agent; each goes once.
            for name, server in zip(patchbay.control_parts, ("control-a", "control-b"), strict=True):
                part = patchbay.parts[name]
                stopping = asyncio.create_task(part.stop(signal.SIGTERM, GONE_S))
                asking = asyncio.create_task(last_new(patchbay.url, server, stopping))

                async def moved(name: str = name) -> bool:
                    here = patchbay.rows(
                        "SELECT COUNT(*) FROM person p JOIN node n ON n.id = p.node_id WHERE n.name <> ?", name
                    )
                    return bool(here[0][0] == 2)

                await until(moved, GONE_S, "both on the other node")
                gone_s = await stopping
                turned_away_s, asked = await asking
                assert turned_away_s < TURNED_AWAY_S
                assert asked > 20
                assert part.process is not None
                assert part.process.returncode == 0
                print(f"{name}: nothing new after {turned_away_s:.1f} s, gone after {gone_s:.1f} s")
                assert "draining" in part.log.read_text()
                await asyncio.gather(customer.peer.wait_tone(880), agent.peer.wait_tone(440))
                await agent.hold(True)  # both are served by the node that stayed
                await agent.hold(False)
                await part.start()
                await patchbay.ready()
                await until(lambda: both_up(figures), TURNED_AWAY_S * 2, "HAProxy sends people to both nodes")
            assert patchbay.rows("SELECT state, epoch FROM session") == [("connected", 1)], "media was not touched"
            assert patchbay.rows("SELECT COUNT(*) FROM segment WHERE session_id = ?", contact["session_id"]) == [(1,)]
            await customer.hang_up()
            await agent.contact("wrap_up", customer.session_id)
            await customer.close()
