"""Every private name of aiortc and aioice that the relay touches. When this fails, read the new version's
source and change server/media/relay/aiortc_seam.py; nothing else in the relay knows these names."""

from __future__ import annotations

import importlib.metadata
import inspect

import aioice.ice
import pylibsrtp
import pytest
from aioice import stun
from aioice.candidate import Candidate
from aioice.ice import CandidatePair, Connection, StunProtocol
from aiortc import RTCCertificate
from aiortc.rtcdtlstransport import RTCDtlsTransport
from pylibsrtp._binding import ffi, lib


def test_the_version_is_the_one_that_was_read() -> None:
    assert importlib.metadata.version("aiortc").startswith("1.16.")
    assert importlib.metadata.version("aioice").startswith("0.13.")


async def test_ice_connection_state() -> None:
    agent = Connection(ice_controlling=False)
    wanted = {
        "_local_candidates": list,
        "_local_candidates_start": bool,
        "_local_candidates_end": bool,
        "_protocols": list,
        "_nominated": dict,
        "_components": set,
    }
    for name, kind in wanted.items():
        assert isinstance(getattr(agent, name), kind), name


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (Connection, "gather_candidates", ["self"]),
        (Connection, "query_consent", ["self"]),
        (Connection, "data_received", ["self", "data", "component"]),
        (Connection, "check_state", ["self", "pair", "state"]),
        (Connection, "check_complete", ["self", "pair"]),
        (Connection, "check_incoming", ["self", "message", "addr", "protocol"]),
        (Connection, "build_request", ["self", "pair", "nominate"]),
        (StunProtocol, "__init__", ["self", "receiver"]),
        (StunProtocol, "datagram_received", ["self", "data", "addr"]),
        (StunProtocol, "send_stun", ["self", "message", "addr"]),
        (RTCDtlsTransport, "__init__", ["self", "transport", "certificates"]),
        (RTCDtlsTransport, "_set_role", ["self", "role"]),
    ],
)
def test_signatures(owner: type, name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


def test_what_our_overrides_rely_on() -> None:
    """The calls by which aioice reaches the overridden methods."""
    sources = {name: inspect.getsource(getattr(Connection, name)) for name in ("connect", "check_start")}
    assert "self.query_consent()" in sources["connect"]
    assert "self.check_incoming(*early_check)" in sources["connect"]
    assert "self.check_state(pair, CandidatePair.State.SUCCEEDED)" in sources["check_start"]
    assert "self.check_complete(pair)" in sources["check_start"]
    assert "self.check_incoming(" in inspect.getsource(Connection.request_received)
    assert "check_message_integrity" in inspect.getsource(Connection.request_received)
    assert "self.receiver.data_received(" in inspect.getsource(StunProtocol.datagram_received)
    assert "_remote_candidates_expected" in inspect.getsource(Connection._check_periodic)


def test_dtls_uses_only_three_names_of_its_transport() -> None:
    source = inspect.getsource(RTCDtlsTransport)
    used = {part.split("(")[0].split(".")[0] for part in source.split("self.transport.")[1:]}
    assert {name.strip(" ),:\n").split("\n")[0].split(" ")[0].rstrip(",:)") for name in used} <= {
        "role",
        "_recv",
        "_send",
    }
    transport = RTCDtlsTransport(None, [RTCCertificate.generateCertificate()])  # type: ignore[arg-type]  # not used yet
    assert transport._rx_srtp is None
    assert transport._tx_srtp is None
    assert transport.state == "new"


def test_values() -> None:
    assert {"SUCCEEDED", "FAILED"} <= set(CandidatePair.State.__members__)
    assert issubclass(stun.TransactionTimeout, stun.TransactionError)
    assert aioice.ice.StunProtocol is StunProtocol
    candidate = Candidate("1", 1, "udp", 1, "192.0.2.1", 9, "host")
    assert candidate._network_host == "192.0.2.1"


def test_pylibsrtp_lends_its_handle() -> None:
    session = pylibsrtp.Session()
    assert ffi.typeof(session._srtp) is ffi.typeof("srtp_t *")
    for name in ("srtp_protect", "srtp_unprotect", "srtp_protect_rtcp", "srtp_unprotect_rtcp"):
        assert callable(getattr(lib, name))
