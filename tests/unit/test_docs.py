"""What the documentation says of the code is held to the code."""

from __future__ import annotations

import re
from pathlib import Path

from server.config import describe
from server.domain.diagram import states_page

ROOT = Path(__file__).parents[2]


def test_the_states_page_is_drawn_from_the_tables() -> None:
    assert (ROOT / "docs/states.md").read_text() == states_page(), "run `make states`"


def test_operations_lists_every_setting() -> None:
    listed = set(re.findall(r"^\| `(PATCHBAY_\w+)`", (ROOT / "docs/operations.md").read_text(), re.M))
    assert listed == {name for name, _, _ in describe()}


def test_links_between_the_pages_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    broken = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert not broken, broken


def test_make_help_lists_what_the_readme_promises() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
    assert {"help", "run", "test", "check", "lint", "types", "migrate", "fuzz", "screenshots", "bench-setup"} <= targets


def test_lock_files_name_versions_and_hashes_and_no_host() -> None:
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        text = lock.read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text, lock.name
    assert '"resolved"' not in (ROOT / "web/package-lock.json").read_text()
