"""What operators see of a running center: metrics that agree with the database, a dashboard and alerts that ask for
nothing else, logs that tell sessions apart and name nobody, and traces."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.helpers.cluster import Cluster
from tests.helpers.customer import Customer
from tests.helpers.deployments import Deployment
from tests.helpers.prometheus import Scrape, asked, scrape, unknown
from tests.helpers.scripted_agent import ScriptedAgent
from tests.helpers.system import PASSWORD, ROOT, STOP_S, System, free_port, system, until

GRAFANA = ROOT / "deploy/grafana/patchbay.json"
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
FRESH_S = 10.0  # the figures are read anew after 5 s
CALL_S = 3.0  # set-up of a call on a shared machine; a collector that held it up would add its time-out of 3 s
CONTEXT = {"order": "ORDER-99887766", "phone": "+49 30 90909 4711"}
PRIVATE: dict[str, Any] = {
    "name": "Zebulon Quarkington",
    "page_url": "https://shop.example/cart?voucher=QX-7731-SECRET",
    "context": CONTEXT,
}
NOTES = "wants the turquoise xylophone back"
SDP_MARKS = ("a=ice-pwd", "a=fingerprint", "a=candidate", "v=0\\r", "v=0\r")


class PrivateCaller(Customer):
    """Tells much about itself."""

    async def _send(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        return await super()._send(kind, {**body, **PRIVATE} if kind == "call.request" else body)

    @property
    def token(self) -> str:
        return self._token


@asynccontextmanager
async def call(patchbay: System) -> AsyncIterator[tuple[PrivateCaller, ScriptedAgent]]:
    """A call that is up, in the end hung up and wrapped up with notes."""
    disposition_id = patchbay.rows("SELECT id FROM disposition")[0][0]
    async with ScriptedAgent(patchbay.url, "ana", PASSWORD, auto_accept=True) as ana:
        await ana.set_state("ready")
        customer = PrivateCaller(patchbay)
        try:
            await customer.begin()
            await ana.contact("talking", customer.session_id)
            yield customer, ana
            await ana.hang_up()
            await ana.contact("wrap_up", customer.session_id)
            await ana.wrap_up(disposition_id, NOTES)
            await ana.in_state("ready")
        finally:
            await customer.close()


def nodes(patchbay: System) -> Sequence[str]:
    return patchbay.node_urls if isinstance(patchbay, Cluster) else (patchbay.url,)


def logs(patchbay: System) -> dict[str, str]:
    """What each process wrote; one system's parts share a file."""
    if isinstance(patchbay, Cluster):
        return {name: part.log.read_text() for name, part in patchbay.parts.items() if name != "haproxy"}
    return {"all": patchbay.log.read_text()}


async def test_a_call_in_metrics_dashboard_and_logs(tmp_path: Path, deployment: Deployment) -> None:
    async with system(tmp_path, log_level="debug") as patchbay:
        async with call(patchbay) as (customer, ana):
            await until(lambda: agrees(patchbay, talking=True), FRESH_S, "figures of the talk")
            await until(lambda: packets(patchbay), FRESH_S, "telemetry")
            the_media_shows([await scrape(url) for url in nodes(patchbay)])
        await until(lambda: archived(patchbay), FRESH_S, "the archive")
        await until(lambda: agrees(patchbay, talking=False), FRESH_S, "figures of afterwards")
        after = [await scrape(url) for url in nodes(patchbay)]
        the_counters_agree(patchbay, after)
        the_dashboard_asks_for_what_there_is(after)
        the_alerts_ask_for_what_there_is(after)
        people = [name for (name,) in patchbay.rows('SELECT name FROM "user"') if " " in name]
        the_logs_name_nobody(patchbay, [customer.token, ana._cookie, ana.csrf, PASSWORD, *people])
        the_logs_tell_sessions_apart(patchbay, customer.session_id)


async def agrees(patchbay: System, *, talking: bool) -> bool:
    """Every node shows what the database holds."""
    sessions = dict(patchbay.rows("SELECT state, COUNT(*) FROM session WHERE NOT done GROUP BY state"))
    agents = dict(patchbay.rows("SELECT state, COUNT(*) FROM agent GROUP BY state"))
    assert sessions == ({"connected": 1} if talking else {}) or not talking
    living = len(nodes(patchbay))
    for url in nodes(patchbay):
        seen = await scrape(url)
        if (
            seen.by("patchbay_sessions", "state") != sessions
            or seen.by("patchbay_agents", "state") != agents
            or seen.by("patchbay_nodes", "state") != {"serving": living}
            or seen.value("patchbay_center_figures_up") != 1
        ):
            return False
    return True


async def packets(patchbay: System) -> bool:
    scrapes = [await scrape(url) for url in nodes(patchbay)]
    return sum(seen.total("patchbay_media_packets_received_total") for seen in scrapes) > 0


async def archived(patchbay: System) -> bool:
    return patchbay.rows("SELECT state FROM recording") == [("ready",)]


def the_media_shows(scrapes: Sequence[Scrape]) -> None:
    workers = {"media-1", "media-2"}
    for seen in scrapes:
        assert set(seen.by("patchbay_worker_connected", "worker")) == workers
        assert sum(seen.by("patchbay_worker_load", "worker").values()) == 2, "two legs"
        assert set(seen.by("patchbay_worker_cpu_share", "worker")) == workers, "each says what it uses"
        assert all(0 < share < 1.5 for share in seen.by("patchbay_worker_cpu_share", "worker").values())
        assert len(seen.samples["patchbay_worker_loop_lag_recent_max_seconds"]) == len(workers)
    assert sum(seen.total("patchbay_sockets") for seen in scrapes) == 2


def the_counters_agree(patchbay: System, scrapes: Sequence[Scrape]) -> None:
    def total(name: str, **labels: str) -> float:
        return sum(seen.total(name, **labels) for seen in scrapes)

    ((reason, created_at, talk_at),) = patchbay.rows("SELECT end_reason, created_at, talk_started_at FROM session")
    ((offered_at, accepted_at),) = patchbay.rows("SELECT offered_at, accepted_at FROM segment")
    assert total("patchbay_sessions_started_total") == 1
    assert total("patchbay_sessions_ended_total") == total("patchbay_sessions_ended_total", reason=reason) == 1
    assert total("patchbay_offers_total") == total("patchbay_offers_total", outcome="accepted") == 1
    assert total("patchbay_first_talk_seconds_sum") == pytest.approx((talk_at - created_at) / 1000)
    assert total("patchbay_offer_answer_seconds_sum") == pytest.approx((accepted_at - offered_at) / 1000)
    assert total("patchbay_setup_seconds_sum") == pytest.approx((talk_at - accepted_at) / 1000)
    events = patchbay.rows("SELECT (SELECT COUNT(*) FROM session_event) + (SELECT COUNT(*) FROM agent_event)")[0][0]
    assert 0 < total("patchbay_commits_total") <= events
    assert total("patchbay_steps_total", result="saved") == total("patchbay_commits_total")
    assert total("patchbay_step_seconds_count") >= total("patchbay_commits_total")
    assert total("patchbay_router_claims_total", result="assigned") == 1
    assert total("patchbay_orders_total", order="OpenLeg", result="ok") == 2
    assert total("patchbay_archives_total", result="ok") == 1
    assert total("patchbay_socket_messages_total", type="offer.accept", result="ok") == 1
    assert total("patchbay_socket_messages_total", type="call.request", result="ok") == 1
    assert total("patchbay_http_request_seconds_count", route="/api/v1/login", status="200") == 1
    assert total("patchbay_loop_lag_seconds_count") > 0
    assert total("patchbay_storage_unavailable_total") == 0
    if len(scrapes) > 1:
        assert total("patchbay_bus_messages_total", direction="sent") > 0
        assert total("patchbay_bus_messages_total", direction="heard") > 0
    allowed = {"queue", "worker", "name", "le"}
    ids = re.compile(r"^(ses|seg|usr|leg|rec|vis|nod)_")
    for seen in scrapes:
        for name, samples in seen.samples.items():
            wrong = [own for own, _ in samples for k, v in own.items() if k not in allowed and ids.match(v)]
            assert not wrong, f"{name} has an id for a label: {wrong}"


def the_dashboard_asks_for_what_there_is(scrapes: Sequence[Scrape]) -> None:
    board = json.loads(GRAFANA.read_text())
    assert board["schemaVersion"] >= 39
    assert {v["name"]: v["type"] for v in board["templating"]["list"]} == {"datasource": "datasource", "node": "query"}
    panels = board["panels"]
    numbers = [panel["id"] for panel in panels]
    assert len(numbers) == len(set(numbers))
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows == ["Business now", "Set-up times", "Router", "Media", "Infrastructure"]
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels]
    assert len(places) == len(set(places)), "two panels in one place"
    asking = {p["title"]: [t["expr"] for t in p["targets"]] for p in panels if p["type"] != "row"}
    wrong = {title: [m for e in exprs for m in unknown(e, scrapes, {})] for title, exprs in asking.items()}
    assert not any(wrong.values()), wrong
    shown = {one.metric for exprs in asking.values() for expr in exprs for one in asked(expr)}
    ours = {name for seen in scrapes for name in seen.names if name.startswith("patchbay_")}
    unseen = {name for name in ours if not any(name.startswith(_family(metric)) for metric in shown)}
    assert unseen <= {"patchbay_deadlines_overdue_age_seconds"}, "neither in the dashboard nor excused"
    assert all(p["datasource"]["uid"] == "${datasource}" for p in panels if p["type"] != "row")


def _family(metric: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", metric)


def the_alerts_ask_for_what_there_is(scrapes: Sequence[Scrape]) -> None:
    text = ALERTS.read_text()
    expressions = re.findall(r"^        expr: (.+)$", text, re.M)
    records = dict(re.findall(r"^      - record: (\S+)\n        expr: (.+)$", text, re.M))
    alerts = re.findall(r"^      - alert: (\w+)$", text, re.M)
    assert len(alerts) == len(set(alerts))
    assert len(expressions) == len(records) + len(alerts) == text.count("expr:")
    assert text.count("summary:") == text.count("remedy:") == text.count("severity:") == len(alerts)
    wrong = {expr: bad for expr in expressions if (bad := unknown(expr, scrapes, records))}
    assert not wrong, wrong
    assert "alerts.yml" in (ALERTS.parent / "prometheus.yml").read_text()


def lines(text: str) -> list[dict[str, Any]]:
    """The log's lines; what the command line prints for people is left out."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def the_logs_name_nobody(patchbay: System, secrets: Sequence[str]) -> None:
    private = [PRIVATE["name"], PRIVATE["page_url"], *CONTEXT.values(), NOTES, *SDP_MARKS]
    for name, text in logs(patchbay).items():
        said = "\n".join(line for line in text.splitlines() if line.startswith("{"))
        for word in (*private, "QX-7731", "xylophone", "Zebulon", *secrets):
            assert word not in said, f"{word!r} in the log of {name}"
        assert "Traceback" not in text, text
        others = [line for line in text.splitlines() if line.strip() and not line.startswith("{")]
        printed = re.compile(r"^(database|shop|agent console|admin|password|starting|Patchbay answers|stopping|every)")
        assert all(printed.match(line) for line in others), f"not JSON: {others}"


def the_logs_tell_sessions_apart(patchbay: System, session_id: str) -> None:
    told = [line for text in logs(patchbay).values() for line in lines(text)]
    for line in told:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"]), line
        assert line["level"] in ("debug", "info", "warning", "error"), line
        assert line["event"], line
    of_session = [line for line in told if line.get("session_id") == session_id]
    events = [line["event"] for line in of_session]
    expected = ("session_arrived", "session_offered", "offer_ended", "session_answered", "session_ended")
    assert [event for event in events if event in expected] == sorted(expected, key=events.index)
    assert set(expected) <= set(events)
    assert all(line["agent_id"].startswith("usr_") for line in of_session if line["event"] == "session_answered")
    for line in told:
        text = json.dumps(line)
        assert session_id not in text or line.get("session_id") == session_id, f"which session? {line}"
    ids = {row[0] for row in patchbay.rows("SELECT id FROM node")}
    assert {line["node_id"] for line in of_session} <= ids
    assert all(line.get("node") for line in of_session)
    control = {name: text for name, text in logs(patchbay).items() if name.startswith("control")}
    for text in control.values():
        assert {line.get("node_id") for line in lines(text)} <= ids, "every line of a control node says which"


# --- traces ------------------------------------------------------------------------------------------


class Collector:
    """An OTLP/HTTP collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        self.raw = b""
        self.url = ""

    async def taken(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.raw += body
        for part in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append({a.key: a.value.string_value for a in part.resource.attributes})
            self.spans += [span for scope in part.scope_spans for span in scope.spans]
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")

    def named(self, name: str, **about: str) -> list[Span]:
        return [span for span in self.spans if span.name == name and about.items() <= attributes(span).items()]


def attributes(span: Span) -> Mapping[str, str]:
    return {a.key.removeprefix("patchbay."): a.value.string_value for a in span.attributes}


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    kept = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", kept.taken)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    kept.url = f"http://127.0.0.1:{port}"
    yield kept
    await runner.cleanup()


@pytest.fixture(autouse=True)
def _send_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")  # ms; OpenTelemetry's own setting


async def test_traces_lead_from_the_click_to_the_worker(tmp_path: Path, collector: Collector) -> None:
    async with system(tmp_path, workers=1, otel_endpoint=collector.url) as patchbay:
        async with call(patchbay) as (customer, _):
            about = {"session_id": customer.session_id}
        await until(lambda: archived(patchbay), FRESH_S, "the archive")

        async def all_came() -> bool:
            return bool(collector.named("patchbay.archive", **about))

        await until(all_came, FRESH_S, "the archive's span")
        node = patchbay.rows("SELECT id FROM node")[0][0]
        (click,) = collector.named("patchbay.socket", type="call.request", **about)
        (accept,) = collector.named("patchbay.socket", type="offer.accept", **about)
        assert click.kind == Span.SPAN_KIND_SERVER
        (first_step,) = (s for s in collector.named("patchbay.step", **about) if s.parent_span_id == click.span_id)
        assert attributes(first_step)["events"].startswith("CallArrived")
        opened = collector.named("patchbay.order", order="OpenLeg", result="ok", **about)
        assert len(opened) == 2, "the customer's leg and the agent's"
        assert click.trace_id in {span.trace_id for span in opened}
        steps = collector.named("patchbay.step", **about)
        assert accept.trace_id in {span.trace_id for span in steps}
        assert collector.named("patchbay.route", result="ok"), "a look that matched something"
        assert collector.named("patchbay.http", route="/api/v1/login", result="200")
        assert not collector.named("patchbay.http", route="/readyz"), "asked once a second by machines"
        parents = {span.parent_span_id for span in collector.spans}
        assert all(look.span_id in parents for look in collector.named("patchbay.route")), "idle looks are no traces"
        for resource in collector.resources:
            assert (resource["service.name"], resource["service.instance.id"]) == ("patchbay", node)
        for word in (PRIVATE["name"], NOTES, "QX-7731", "ORDER-99887766", *SDP_MARKS, PASSWORD, customer.token):
            assert str(word).encode() not in collector.raw, f"{word!r} in a trace"
        arrived = next(line for line in lines(patchbay.log.read_text()) if line["event"] == "session_arrived")
        assert arrived["trace_id"] == click.trace_id.hex(), "from a log line to its trace"


@pytest.mark.parametrize("fault", ["away", "hangs"])
async def test_calls_do_not_wait_for_a_collector(tmp_path: Path, fault: str) -> None:
    """One that is not there, and one that takes the connection and says nothing."""
    held: list[asyncio.StreamWriter] = []

    async def says_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    port = free_port()
    server = await asyncio.start_server(says_nothing, "127.0.0.1", port) if fault == "hangs" else None
    try:
        async with system(tmp_path, workers=1, otel_endpoint=f"http://127.0.0.1:{port}") as patchbay:
            for _ in range(2):
                async with call(patchbay) as (customer, _):
                    pass
                ((created_at, talk_at),) = patchbay.rows(
                    "SELECT created_at, talk_started_at FROM session WHERE id = ?", customer.session_id
                )
                assert talk_at - created_at < CALL_S * 1000
            seen = await scrape(patchbay.url)
            assert seen.value("patchbay_loop_lag_recent_max_seconds") < 1.0, "the exporter blocks nobody"

            async def said() -> bool:
                return "traces_not_sent" in patchbay.log.read_text()

            await until(said, 3 * CALL_S + FRESH_S, "a word about the collector")
            assert (fault == "hangs") == bool(held)
            assert await patchbay.stop() < STOP_S
            text = patchbay.log.read_text()
            assert text.count("traces_not_sent") == 1, "once is enough"
            assert "Traceback" not in text
    finally:
        if server is not None:
            server.close()
            for writer in held:
                writer.close()
            await server.wait_closed()


async def test_without_a_collector_its_exporter_is_not_loaded() -> None:
    script = "import sys, server.app; sys.exit('opentelemetry.exporter' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, cwd=ROOT)
    assert await process.wait() == 0
