"""Who may import whom (docs/architecture.md#who-may-import-whom), read from the sources with `ast`."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SERVER = ROOT / "server"
PORTS = {"server.services.ports", "server.services.admin_ports", "server.services.sip_ports"}
# Leaves: they import nothing of ours.
COMMON = {"server.ids", "server.clock", "server.log", "server.process", "server.probes"}
ADAPTERS = ("routing", "media", "storage", "sip")
ALLOWED: dict[str, set[str]] = {
    "domain": {"server.domain"},
    "services": {"server.domain", "server.services"},
    "signaling": {"server.domain", "server.services", "server.signaling"},
    **{name: {"server.domain", f"server.{name}"} for name in ADAPTERS},
    "whatif": {"server.domain", "server.whatif", "server.routing.snapshot", "server.storage", *PORTS},
}
PURE = {
    "server/routing/policy.py": {"server.domain"},
    "server/routing/scoring.py": {"server.domain"},
    "server/routing/pools.py": {"server.domain", "server.routing.scoring"},
    "server/routing/reasons.py": {
        "server.domain",
        "server.routing.policy",
        "server.routing.pools",
        "server.routing.scoring",
    },
    "server/routing/snapshot.py": {
        "server.domain",
        "server.routing.policy",
        "server.routing.pools",
        "server.routing.reasons",
        "server.routing.scoring",
    },
    "server/whatif/workload.py": {"server.domain"},
    "server/whatif/outcome.py": {"server.domain"},
    "server/whatif/comparison.py": {"server.domain", "server.whatif.outcome"},
    "server/whatif/answer.py": {"server.domain", "server.whatif.comparison", "server.whatif.outcome"},
    "server/whatif/patience.py": set(),
    "server/whatif/faults.py": set(),
    "server/whatif/engine.py": {
        "server.domain",
        "server.routing.snapshot",
        "server.whatif.outcome",
        "server.whatif.workload",
    },
    "server/whatif/change.py": {"server.domain", "server.whatif.faults", "server.whatif.workload"},
    "server/whatif/made_day.py": {
        "server.domain",
        "server.whatif.change",
        "server.whatif.faults",
        "server.whatif.workload",
    },
    **{
        f"server/media/mixer/{name}.py": {"server.media.mixer", "server.media.ogg"}
        for name in (
            "arrivals",
            "codecs",
            "formats",
            "g711",
            "graph",
            "jitter",
            "protocol",
            "rates",
            "setup",
            "stretch",
            "voice",
        )
    },
    "server/media/relay/wiring.py": {
        "server.domain",
        "server.media.mixer.formats",
        "server.media.relay.music",
        "server.media.sdp",
    },
    "server/media/sdp.py": {"server.media.sdp_lines", "server.services.ports"},
    "server/media/sdp_crypto.py": {"server.media.sdp_lines"},
    "server/media/sdp_lines.py": {"server.services.ports"},
    "server/media/sdp_plain.py": {"server.media.sdp_crypto", "server.media.sdp_lines", "server.services.ports"},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            known = {name for name in submodules if (ROOT / (name.replace(".", "/") + ".py")).exists()}
            found |= known or {node.module}
    return found


def modules(package: str) -> list[Path]:
    return sorted((SERVER / package).rglob("*.py"))


def within(name: str, allowed: set[str]) -> bool:
    return any(name == root or name.startswith(root + ".") for root in allowed)


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_arrows_between_packages(package: str) -> None:
    allowed = ALLOWED[package] | (set() if package == "domain" else COMMON)
    if package in ADAPTERS:
        allowed |= PORTS
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in sorted(imports(path))
        if name.startswith("server") and not within(name, allowed)
    ]
    assert not wrong, "\n".join(wrong)
    assert modules(package), f"server/{package} is empty: this test checks nothing"


def test_the_domain_knows_the_standard_library_only() -> None:
    wrong = [
        f"{path.name} imports {name}"
        for path in modules("domain")
        for name in imports(path)
        if not name.startswith("server.domain") and name.split(".")[0] not in sys.stdlib_module_names
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_files_outside_the_domain(name: str) -> None:
    ours = {imported for imported in imports(ROOT / name) if imported.startswith("server")}
    assert all(within(imported, PURE[name]) for imported in ours), ours


def test_aiortc_and_its_private_names_stay_in_the_media_package() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in SERVER.rglob("*.py")
        if "media" not in path.parts
        and any(name.split(".")[0] in ("aiortc", "aioice", "pylibsrtp") for name in imports(path))
    ]
    assert not wrong, wrong


def test_web_apps_import_only_ui_and_core() -> None:
    apps = ("agent", "admin", "login", "customer-widget")
    wrong = []
    for app in apps:
        for path in [*(ROOT / "web" / app).rglob("*.ts"), *(ROOT / "web" / app).rglob("*.svelte")]:
            text = path.read_text()
            for other in apps:
                if other != app and f"/{other}/" in "".join(
                    line for line in text.splitlines() if line.lstrip().startswith(("import", "} from", "export"))
                ):
                    wrong.append(f"{path.relative_to(ROOT)} imports {other}")
            if "new RTCPeerConnection" in text:
                wrong.append(f"{path.relative_to(ROOT)} makes a peer connection")
    assert not wrong, wrong
