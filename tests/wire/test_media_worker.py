"""The worker process under abuse, death and broken connections."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import stat
import time
from pathlib import Path

import pytest

from server.domain.media import LegDown, LegUp, MediaReport, OpenLeg, ReleaseSession
from server.media.client import WorkersClient
from server.media.peer import Peer
from server.media.relay.aiortc_seam import Identity
from server.media.relay.leg import Leg, Network
from server.media.relay.link import Binding
from server.media.relay.udp_ports import PortRange
from server.services.ports import MediaError
from tests.helpers.rtc_peer import Caller, Listener, eventually, running
from tests.strangers.handshakes import ports_of


def can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


async def test_a_certificate_that_the_offer_did_not_name_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        caller, peer = rig.caller(), rig.peer(440)
        offer = await peer.offer()
        at = offer.index("a=fingerprint:sha-256 ") + len("a=fingerprint:sha-256 ")
        forged = offer[:at] + ("0" if offer[at] != "0" else "1") + offer[at + 1 :]
        result = await caller.order(OpenLeg("customer", 1, forged))
        assert result.sdp is not None
        await peer.answer(result.sdp)
        await rig.listener.until_report(LegDown("customer", 1, "failed"))
        assert LegUp("customer", 1) not in rig.listener.all()


async def test_candidates_and_names_in_the_offer_do_not_stall(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        caller, peer = rig.caller(), rig.peer(440)
        offer = await peer.offer(candidates=True)
        at = offer.index("a=candidate")
        extra = (
            "a=candidate:9 1 udp 2113937151 b1a2c3d4-1111-4222-8333-444455556666.local 50000 typ host\r\n"
            "a=candidate:8 1 tcp 1518280447 192.0.2.9 9 typ host tcptype active\r\n"
        )
        began = time.monotonic()
        result = await caller.order(OpenLeg("customer", 1, offer[:at] + extra + offer[at:]))
        assert time.monotonic() - began < 0.5
        assert result.sdp is not None
        await peer.answer(result.sdp)
        await rig.listener.until_report(LegUp("customer", 1))


async def test_mutated_offers_give_an_answer_or_a_code(tmp_path: Path) -> None:
    dice = random.Random(7)
    async with running(tmp_path) as rig:
        assert rig.worker.process is not None
        descriptors = Path(f"/proc/{rig.worker.process.pid}/fd")
        before = len(list(descriptors.glob("*")))
        good = await rig.peer().offer()
        codes: dict[str, int] = {}
        for index in range(150):
            text = list(good)
            for _ in range(dice.randint(1, 6)):
                at = dice.randrange(len(text))
                text[at : at + dice.randint(0, 20)] = dice.choice(["", "\r\n", "0", "é", " ", "a=", "\ud800", "\0"])
            caller = rig.caller(f"fuzz{index}")
            try:
                await caller.order(OpenLeg("leg", 1, "".join(text)))
                codes["answered"] = codes.get("answered", 0) + 1
            except MediaError as error:
                codes[error.code] = codes.get(error.code, 0) + 1
            await caller.order(ReleaseSession())
        assert set(codes) <= {"answered", "bad_sdp", "no_audio", "sdp_too_large"}, codes
        assert codes["answered"] > 5
        await eventually(lambda: len(list(descriptors.glob("*"))) <= before)  # no socket leaks
        await rig.call()


async def test_ports_run_out_and_come_back(tmp_path: Path) -> None:
    low = 42000 + os.getpid() % 1000 * 8
    async with running(tmp_path, "--bind", "127.0.0.1", "--ports", f"{low}-{low + 1}") as rig:
        caller = rig.caller()
        answers = []
        for leg in ("a", "b"):
            answers.append((await caller.order(OpenLeg(leg, 1, await rig.peer().offer()))).sdp or "")
        assert sorted(port for sdp in answers for port in ports_of(sdp)) == [low, low + 1]
        offer = await rig.peer().offer()
        stamp = caller.stamp()
        with pytest.raises(MediaError) as caught:
            await rig.engine.order("media-1", stamp, OpenLeg("c", 1, offer))
        assert caught.value.code == "no_ports"
        await rig.engine.close_leg("media-1", "s1", "a")
        await eventually(lambda: can_bind(low))
        assert (await rig.engine.order("media-1", stamp, OpenLeg("c", 1, offer))).sdp, "not the old answer"


async def test_a_full_worker_takes_no_new_session_and_whatever_others_lost(tmp_path: Path) -> None:
    async with running(tmp_path, "--bind", "127.0.0.1", "--capacity", "1") as rig:
        caller, peer = rig.caller(), rig.peer()
        await caller.open("customer", peer)
        second = rig.peer()
        await caller.open("agent", second)  # of the session that it has
        with pytest.raises(MediaError) as refused:
            await rig.caller("s2").bridge()
        assert refused.value.code == "worker_busy"
        await rig.caller("s3", epoch=2).bridge()  # its worker died
        await caller.order(ReleaseSession())
        await rig.caller("s2").bridge()


async def test_one_leg_cannot_take_all_ports(tmp_path: Path) -> None:
    low = 22000 + os.getpid() % 200 * 40
    async with running(tmp_path, "--bind", "127.0.0.1", "--ports", f"{low}-{low + 39}") as rig:
        caller, _, _ = await rig.call()
        offer = await rig.peer().offer()
        for generation in range(2, 202):
            assert (await caller.order(OpenLeg("customer", generation, offer))).sdp
        held = {leg.leg_id: leg.generation for leg in await rig.engine.list_legs("media-1")}
        assert held == {"customer": 201, "agent": 1}
        bound = sum(not can_bind(port) for port in range(low, low + 40))
        assert bound == 3, "the agent's, the customer's that speaks, and the newest"
        await eventually(lambda: rig.engine.connected()[0].load == 3, 3)
        await rig.peers[1].wait_tone(440)
        other = rig.caller("s2")
        await other.open("customer", rig.peer(440))
        await rig.listener.until_report(LegUp("customer", 1), session="s2")
        assert not any(isinstance(report, LegDown) for report in rig.listener.all()), "the call went on"


class NoPortsLeft(PortRange):
    """Runs out when the test says so."""

    empty = False

    def bind(self, host: str) -> socket.socket | None:
        return None if self.empty else super().bind(host)


class Reports(list[MediaReport]):
    """A leg's user that only listens."""

    def report(self, report: MediaReport) -> None:
        self.append(report)

    def rewire(self) -> None:
        pass


async def test_a_generation_that_made_room_for_nothing_is_reported_down() -> None:
    reports, ports, peer = Reports(), NoPortsLeft(), Peer(440)
    offer = await peer.offer()
    async with asyncio.TaskGroup() as tasks:
        network = Network((Binding("127.0.0.1", ("127.0.0.1",)),), ports, Identity(), tasks)
        leg = Leg("s1", "customer", reports)
        await leg.open(1, offer, network)
        with pytest.raises(MediaError):
            await leg.open(2, "v=0 no offer", network)
        assert (len(leg.anchors), reports) == (1, []), "a bad offer closes nothing"
        ports.empty = True
        for _ in range(2):
            with pytest.raises(MediaError) as caught:
                await leg.open(2, offer, network)
            assert caught.value.code == "no_ports"
        assert reports == [LegDown("customer", 1, "failed")]
        ports.empty = False
        await leg.open(2, offer, network)
        leg.close()
    await peer.close()


async def test_announced_addresses(tmp_path: Path) -> None:
    async with running(tmp_path, "--announce", "203.0.113.5,127.0.0.1") as rig:
        peer = rig.peer(440)
        result = await rig.caller().order(OpenLeg("customer", 1, await peer.offer()))
        assert result.sdp is not None
        assert " 203.0.113.5 " in result.sdp
        await peer.answer(result.sdp)
        await rig.listener.until_report(LegUp("customer", 1))


async def test_a_killed_worker_is_noticed_and_the_call_goes_on_at_the_next_epoch(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.call()
        incarnation = rig.listener.ups[0].incarnation
        began = time.monotonic()
        rig.worker.kill()
        await rig.listener.until(lambda: bool(rig.listener.downs))
        noticed = time.monotonic() - began
        print(f"noticed after {noticed * 1000:.0f} ms")
        assert noticed < 0.3
        assert rig.listener.downs == [("media-1", incarnation)]
        with pytest.raises(MediaError) as caught:
            await rig.engine.list_legs("media-1")
        assert caught.value.code == "worker_gone"
        assert rig.engine.workers() == []
        await rig.worker.start()
        await rig.listener.until(lambda: len(rig.listener.ups) == 2)
        assert rig.listener.ups[1].incarnation != incarnation
        caller, customer, agent = rig.caller(epoch=2), rig.peer(440), rig.peer(880)
        await caller.open("customer", customer, generation=2)
        await caller.open("agent", agent, generation=2)
        await caller.bridge()
        await customer.wait_tone(880)
        await agent.wait_tone(440)
        assert len(rig.listener.downs) == 1


async def test_reports_wait_for_the_next_connection_and_come_once(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.call()
        await rig.engine.stop()
        for peer in rig.peers:
            await peer.close()  # reported to nobody
        listener, engine = Listener(), WorkersClient({"media-1": rig.worker.socket})
        listener.fail_reports = 3
        await engine.start(listener)
        await listener.until(lambda: len(listener.reports) >= 2)
        assert {report.leg_id for report in listener.all()} == {"customer", "agent"}  # type: ignore[union-attr]
        assert listener.fail_reports == 0
        seen = len(listener.reports)
        await asyncio.wait_for(engine.list_legs("media-1"), 5)  # the acknowledgement went before
        await engine.stop()
        third, engine = Listener(), WorkersClient({"media-1": rig.worker.socket})
        await engine.start(third)
        await third.until(lambda: bool(third.ups))
        await engine.list_legs("media-1")
        assert third.reports == []
        assert seen == len(set(map(str, listener.reports)))
        await engine.stop()


async def test_any_connection_gets_a_report_and_all_may_order(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        second = Listener()
        engine = WorkersClient({"media-1": rig.worker.socket})
        await engine.start(second)
        await second.until(lambda: bool(second.ups))
        for index in range(12):
            await rig.caller(f"s{index}").open("customer", rig.peer(440))
        await eventually(lambda: len(rig.listener.reports) + len(second.reports) == 12)
        assert rig.listener.reports
        assert second.reports
        assert not {s for s, _, _ in rig.listener.reports} & {s for s, _, _ in second.reports}, "each to one of them"
        await engine.stop()
        caller = rig.caller("alone")
        await caller.open("customer", rig.peer(440))
        await rig.listener.until_report(LegUp("customer", 1), session="alone")


async def test_a_worker_without_a_control_node_keeps_its_calls(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        _, customer, agent = await rig.call()
        await rig.engine.stop()
        await customer.wait_tone(880)
        await agent.wait_tone(440)


async def test_sigterm_ends_it_quickly_and_tells_the_peers(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        _, customer, _ = await rig.call()
        assert await rig.worker.stop() < 2
        assert rig.worker.process is not None
        assert rig.worker.process.returncode == 0
        await eventually(lambda: customer.state != "connected", 3)
        assert not rig.worker.socket.exists()


async def test_a_drain_ends_with_its_time_or_with_a_second_signal(tmp_path: Path) -> None:
    for number, (drain_s, again) in enumerate(((1.5, False), (30.0, True))):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with running(folder, "--bind", "127.0.0.1", "--drain-s", str(drain_s)) as rig:
            _, customer, agent = await rig.call()
            assert rig.worker.process is not None
            began = time.monotonic()
            rig.worker.process.terminate()
            await eventually(lambda rig=rig: rig.engine.connected()[0].draining, 0.5)  # type: ignore[misc]
            assert not rig.engine.workers()
            await asyncio.gather(customer.wait_tone(880), agent.wait_tone(440))
            if again:
                rig.worker.process.terminate()
            await asyncio.wait_for(rig.worker.process.wait(), 5)
            took_s = time.monotonic() - began
            assert rig.worker.process.returncode == 0
            assert again or took_s >= drain_s


async def test_a_worker_without_calls_has_nothing_to_drain(tmp_path: Path) -> None:
    async with running(tmp_path, "--bind", "127.0.0.1", "--drain-s", "30") as rig:
        assert await rig.worker.stop() < 2


async def test_the_socket_is_private_and_draining_shows(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        assert stat.S_IMODE(rig.worker.socket.stat().st_mode) == 0o600
        assert [info.worker_id for info in rig.engine.workers()] == ["media-1"]
        await rig.engine.drain("media-1")
        await eventually(lambda: not rig.engine.workers(), 3)


async def test_bad_ids_never_become_paths(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        caller = Caller(rig.engine, session_id="../../etc")
        with pytest.raises(MediaError) as caught:
            await caller.bridge()
        assert caught.value.code == "internal"
