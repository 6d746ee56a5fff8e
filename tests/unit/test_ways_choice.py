"""Whether a worker carries packets by the compiled part: where it was built, unless the settings say otherwise."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from server import log as logs
from server.config import Config
from server.media.relay import ways
from server.media.relay.__main__ import parse_arguments
from server.supervisor import lone_worker, media_arguments

CAN_BUILD = sys.platform == "linux" and shutil.which("cc") is not None


@pytest.mark.skipif(not CAN_BUILD, reason="no compiler, or no Linux")
def test_it_is_there_wherever_a_compiler_is() -> None:
    assert ways.load() is not None, "not built at the install: pip install --no-build-isolation --editable . says why"


@pytest.mark.skipif(ways.load() is None, reason="there is no compiled part")
def test_one_of_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "_ABI", 0)
    with capture_logs() as said:
        assert ways.load() is None
    assert [line["event"] for line in said] == ["ways_unusable"]


@pytest.mark.parametrize("compiled", [True, False])
def test_the_setting_reaches_the_worker(compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "configure", lambda level, as_json: None)
    config = replace(
        Config(), data_dir=tmp_path, media_compiled=compiled, media_listen=("127.0.0.1", 7443), media_token="t" * 32
    )
    alone, environment = lone_worker(config)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for arguments in (media_arguments(config, tmp_path, "media-1"), alone[3:]):
        assert parse_arguments(arguments).settings.compiled is compiled
