"""Settings: every fault at once, each with what to do."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from server.config import Config, ConfigError, describe, load, make_data_dir
from server.media.master_keys import MasterKey


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load({"PATH": "/bin"})
    assert (config.host, config.port) == ("127.0.0.1", 8080)
    assert config.data_dir == tmp_path / "data"
    assert config.database_url == f"sqlite+aiosqlite:///{tmp_path}/data/patchbay.db"
    assert config.media_workers >= 1
    assert config.own_url == "http://127.0.0.1:8080"


def test_environment_wins_over_file(tmp_path: Path) -> None:
    file = tmp_path / "patchbay.toml"
    file.write_text('port = 9000\nhost = "0.0.0.0"\ntrusted_proxies = ["10.0.0.0/8"]\nlog_json = true\n')
    config = load({"PATCHBAY_PORT": "9001", "PATCHBAY_CONFIG": str(file)})
    assert (config.port, config.host, config.log_json) == (9001, "0.0.0.0", True)
    assert [str(network) for network in config.trusted_proxies] == ["10.0.0.0/8"]


POSTGRES = {"PATCHBAY_DATABASE_URL": "postgresql://u:p@db/patchbay"}


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://a:26379,b:26379/center/0",
        "rediss+sentinel://u:p@a:26379/center",
        "redis+cluster://a:6379,b:6379,c:6379",
        "rediss+cluster://u:p@a:6379/",
        "redis://a:6379/0",
    ],
)
def test_addresses_of_redis(url: str) -> None:
    assert load(POSTGRES | {"PATCHBAY_REDIS_URL": url}).redis_url == url


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://a,b:26379/center",
        "redis+sentinel://a:26379",
        "redis+cluster://a:6379,b",
        "redis+cluster://a:6379/1",
        "redis+other://a:6379",
        "http://a",
    ],
)
def test_addresses_that_are_none_of_a_redis(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(POSTGRES | {"PATCHBAY_REDIS_URL": url})
    assert [fault.setting for fault in caught.value.faults] == ["PATCHBAY_REDIS_URL"]


def test_all_faults_at_once(tmp_path: Path) -> None:
    file = tmp_path / "patchbay.toml"
    file.write_text('hots = "x"\nmedia_bind = "not-an-address"\n')
    environ = {
        "PATCHBAY_PORT": "eighty",
        "PATCHBAY_TRUSTED_PROXYS": "10.0.0.0/8",
        "PATCHBAY_MEDIA_PORTS": "20000-20003",
        "PATCHBAY_TLS_CERT": str(tmp_path / "missing.pem"),
        "PATCHBAY_PUBLIC_URL": "https://cc.example/path",
        "PATCHBAY_DATABASE_URL": "postgresql://x",
        "PATCHBAY_LOG_LEVEL": "loud",
    }
    with pytest.raises(ConfigError) as caught:
        load(environ, file)
    faults = {fault.setting: fault for fault in caught.value.faults}
    assert set(faults) == {*environ, "hots", "media_bind", "tls_key"}
    assert faults["PATCHBAY_TRUSTED_PROXYS"].remedy == "Did you mean PATCHBAY_TRUSTED_PROXIES?"
    assert faults["hots"].remedy == "Did you mean host?"
    assert all(fault.wrong and fault.remedy for fault in caught.value.faults)
    assert len(str(caught.value).splitlines()) == len(caught.value.faults)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("PORT", ""),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("MEDIA_PORTS", "80-90"),
        ("MEDIA_PORTS", "30000"),
        ("MEDIA_ANNOUNCE", "media.example.com"),
        ("PUBLIC_URL", "cc.example"),
        ("PUBLIC_URL", "https://cc.example:99999"),
        ("LOG_JSON", "maybe"),
        ("SESSION_COOKIE_HOURS", "0"),
        ("DATA_DIR", " "),
    ],
)
def test_bad_values(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({f"PATCHBAY_{name}": value})
    assert [fault.setting for fault in caught.value.faults] == [f"PATCHBAY_{name}"]


@pytest.mark.parametrize("name", ["METRICS_TOKEN", "DEMO_PASSWORD"])
def test_a_short_secret_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({f"PATCHBAY_{name}": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_missing_and_broken_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        load({"PATCHBAY_CONFIG": str(tmp_path / "none.toml")})
    (tmp_path / "bad.toml").write_text("port = = 1")
    with pytest.raises(ConfigError, match="is not TOML"):
        load({}, tmp_path / "bad.toml")


def test_data_dir_is_private(tmp_path: Path) -> None:
    config = load({"PATCHBAY_DATA_DIR": str(tmp_path / "a" / "b")})
    make_data_dir(config)
    make_data_dir(config)
    assert stat.S_IMODE(config.data_dir.stat().st_mode) == 0o700


def test_data_dir_must_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="not a directory"):
        load({"PATCHBAY_DATA_DIR": str(tmp_path / "file")})
    config = Config(data_dir=tmp_path / "file" / "below")
    with pytest.raises(ConfigError):
        make_data_dir(config)


def test_public_url_is_normalised() -> None:
    assert load({"PATCHBAY_PUBLIC_URL": "https://CC.example:8443/"}).public_url == "https://cc.example:8443"


def test_every_setting_is_described() -> None:
    assert all(name.startswith("PATCHBAY_") and help_text for name, _default, help_text in describe())


KEY_A, KEY_B = MasterKey("a", bytes(32)), MasterKey("b", bytes(range(32)))


def test_recording_keys(tmp_path: Path) -> None:
    config = load({"PATCHBAY_RECORDING_KEYS": f"{KEY_B.text}, {KEY_A.text}"})
    assert config.master_keys == (KEY_B, KEY_A)
    assert KEY_B.text.partition(":")[2] not in repr(config)
    file = tmp_path / "keys"
    file.write_text(f"# of the company\n{KEY_A.text}\n")
    assert load({"PATCHBAY_RECORDING_KEYS_FILE": str(file)}).master_keys == (KEY_A,)
    assert load({}).master_keys == ()


@pytest.mark.parametrize("value", ["", "a", "a:xyz", "a:AAAA", f"{KEY_A.text},{KEY_A.text}"])
def test_recording_keys_that_are_none(value: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(value)
    for environment in ({"PATCHBAY_RECORDING_KEYS": value}, {"PATCHBAY_RECORDING_KEYS_FILE": str(file)}):
        with pytest.raises(ConfigError) as caught:
            load(environment)
        assert "openssl rand -base64 32" in str(caught.value)


def test_recording_keys_come_from_one_place(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(KEY_A.text)
    with pytest.raises(ConfigError, match="Give one of the two"):
        load({"PATCHBAY_RECORDING_KEYS": KEY_A.text, "PATCHBAY_RECORDING_KEYS_FILE": str(file)})
