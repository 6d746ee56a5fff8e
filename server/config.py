"""Settings: read once from an optional TOML file and the environment, frozen, and passed in.

The environment (`PATCHBAY_PORT=8443`) wins over the file (`port = 8443`). Lists are comma-separated in the
environment. `load` reports all faults at once, and a name that it does not know is a fault too: a typing
error in `PATCHBAY_TRUSTED_PROXIES` must not silently trust nobody.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from server.media.master_keys import BadKeys, MasterKey, read_keys

ENV_PREFIX = "PATCHBAY_"
LOG_LEVELS = ("debug", "info", "warning", "error")
MIN_DEMO_PASSWORD_CHARS = 10  # the same floor as every other password
MIN_METRICS_TOKEN_CHARS = 16  # shorter ones can be guessed over the network
MIN_MEDIA_PORTS = 16  # a call takes two ports and closing ones linger

MIN_MEDIA_TOKEN_CHARS = 32  # whoever knows it may listen to calls
MIN_TURN_SECRET_CHARS = 16
MAX_DRAIN_S = 55  # with the rest of the way out below a minute

Network = IPv4Network | IPv6Network
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TURN_URL = re.compile(r"(turns?|stun):[A-Za-z0-9.\-\[\]:]{1,255}(\?transport=(udp|tcp))?")  # RFC 7064, RFC 7065


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong setting: its name, what is wrong, and what to do."""

    setting: str
    wrong: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.wrong}. {self.remedy}"


class ConfigError(Exception):
    """The settings can't be used. Its text names every fault and what to do about each."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


class _Wrong(Exception):
    def __init__(self, wrong: str, remedy: str) -> None:
        super().__init__(wrong)
        self.wrong = wrong
        self.remedy = remedy


# --- reading one value -------------------------------------------------------------------------------


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"{value!r} is not text", "Put it in quotes")
    return value.strip()


def _integer(low: int, high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        remedy = f"Give a whole number from {low} to {high}"
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise _Wrong(f"{value!r} is not a number", remedy)
        try:
            number = int(value)
        except ValueError:
            raise _Wrong(f"{value!r} is not a number", remedy) from None
        if not low <= number <= high:
            raise _Wrong(f"{number} is out of range", remedy)
        return number

    return read


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    words = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    try:
        return words[str(value).strip().lower()]
    except KeyError:
        raise _Wrong(f"{value!r} is neither true nor false", "Give true or false") from None


def _path(value: object) -> Path:
    text = _text(value)
    if not text:
        raise _Wrong("the path is empty", "Give a path, or leave the setting out")
    return Path(text).expanduser().absolute()


def _file(value: object) -> Path:
    path = _path(value)
    if not path.is_file():
        raise _Wrong(f"{path} is not a file", "Give the path of an existing PEM file")
    if not os.access(path, os.R_OK):
        raise _Wrong(f"{path} can't be read", "Let the user that runs Patchbay read it")
    return path


def _list(value: object) -> list[str]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise _Wrong(f"{value!r} is not a list", 'Give "a, b" in the environment, ["a", "b"] in the file')
    return [part.strip() for part in parts if part.strip()]


def _networks(value: object) -> tuple[Network, ...]:
    found = []
    for part in _list(value):
        try:
            found.append(ip_network(part))
        except ValueError as error:
            raise _Wrong(str(error), "Give networks such as 10.0.0.0/8, or addresses") from None
    return tuple(found)


def _addresses(value: object) -> tuple[str, ...]:
    for part in _list(value):
        try:
            ip_address(part)
        except ValueError as error:
            raise _Wrong(str(error), "Give IP addresses, not names: browsers get them as they are") from None
    return tuple(_list(value))


def _ports(value: object) -> tuple[int, int]:
    remedy = f"Give a range of at least {MIN_MEDIA_PORTS} ports, such as 20000-29999"
    low, dash, high = _text(value).partition("-")
    if not (dash and low.strip().isdecimal() and high.strip().isdecimal()):
        raise _Wrong(f"{value!r} is not a port range", remedy)
    first, last = int(low), int(high)
    if not 1024 <= first <= last <= 65535:
        raise _Wrong(f"{value!r} is not within 1024-65535", remedy)
    if last - first + 1 < MIN_MEDIA_PORTS:
        raise _Wrong(f"{value!r} is too narrow", remedy)
    return first, last


def _public_url(value: object) -> str:
    remedy = "Give the address that browsers use, such as https://cc.example.com, without a path"
    text = _text(value).rstrip("/")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _Wrong(f"{text!r} is not a URL", remedy) from None
    plain = not (parts.path or parts.query or parts.fragment or parts.username)
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise _Wrong(f"{text!r} is not the address of a site", remedy)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")


def _database_url(value: object) -> str:
    text = _text(value)
    scheme = text.split(":", 1)[0]
    if text.startswith("sqlite+aiosqlite:///"):
        return text
    remedy = "Give postgresql+asyncpg://user:password@host/database, or sqlite+aiosqlite:///path"
    if scheme not in ("postgresql", "postgresql+asyncpg"):
        raise _Wrong(f"{scheme!r} is no database that Patchbay speaks", remedy)
    try:
        parts = urlsplit(text)
        named = parts.hostname or "host=" in parts.query
        bool(parts.port)
    except ValueError:
        raise _Wrong("it is not a URL", remedy) from None  # unsaid: it may hold a password
    if not named or len(parts.path) < 2:
        raise _Wrong("it names no host or no database", remedy)
    return "postgresql+asyncpg" + text[len(scheme) :]


_HOSTS = r"(?:[^@/]*@)?[^,/:@\s]+:\d{1,5}(?:,[^,/:@\s]+:\d{1,5})*"
_SENTINELS = re.compile(rf"rediss?\+sentinel://{_HOSTS}/[^/\s]+(?:/\d{{1,3}})?")
_SENTINELS_REMEDY = "Give redis+sentinel://host:26379,host:26379/service/0"
_CLUSTER = re.compile(rf"rediss?\+cluster://{_HOSTS}/?")
_CLUSTER_REMEDY = "Give redis+cluster://host:6379,host:6379,host:6379, without a database"


def _redis_url(value: object) -> str:
    text, remedy = _text(value), "Give redis://host:6379/0, rediss://… for TLS, or unix:///path/to/redis.sock"
    if text.partition("://")[0].endswith("+sentinel"):
        if _SENTINELS.fullmatch(text) is None:
            raise _Wrong("it names no hosts with ports, or no service", _SENTINELS_REMEDY)
        return text
    if text.partition("://")[0].endswith("+cluster"):
        if _CLUSTER.fullmatch(text) is None:
            raise _Wrong("it names no hosts with ports, or more than these", _CLUSTER_REMEDY)
        return text
    try:
        parts = urlsplit(text)
        bool(parts.port)
    except ValueError:
        raise _Wrong("it is not a URL", remedy) from None
    if parts.scheme not in ("redis", "rediss", "unix") or not (parts.hostname or parts.path):
        raise _Wrong(f"{parts.scheme!r} is no address of a Redis", remedy)
    return text


def _url_of(*schemes: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        text, remedy = _text(value).rstrip("/"), f"Give a URL that begins with {' or '.join(schemes)}"
        try:
            parts = urlsplit(text)
            bool(parts.port)
        except ValueError:
            raise _Wrong(f"{text!r} is not a URL", remedy) from None
        if parts.scheme not in schemes or not parts.hostname:
            raise _Wrong(f"{text!r} is not such an address", remedy)
        return text

    return read


def _media_urls(value: object) -> tuple[tuple[str, str], ...]:
    """(worker id, URL) of each remote media worker."""
    remedy = "Give name=wss://host:port for each worker, such as media-a1=wss://10.0.0.5:7443"
    found: dict[str, str] = {}
    for part in _list(value):
        name, equals, url = part.partition("=")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _Wrong(f"{part!r} is not name=URL", remedy) from None
        if not (equals and _NAME.fullmatch(name.strip())):
            raise _Wrong(f"{part!r} is not name=URL", remedy)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or port is None:
            raise _Wrong(f"{part!r} has no wss:// address with a port", remedy)
        if parts.scheme == "ws" and not _is_loopback(parts.hostname):
            raise _Wrong(f"{part!r} would send the token and calls' keys in plain text", "Use wss://")
        if name.strip() in found:
            raise _Wrong(f"{name.strip()!r} is there twice", "Give each worker a name of its own")
        found[name.strip()] = f"{parts.scheme}://{parts.netloc}"
    return tuple(found.items())


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(value: object) -> tuple[str, int]:
    text, remedy = _text(value), "Give an address and a port, such as 10.0.0.5:7443 or [::1]:7443"
    host, colon, port = text.rpartition(":")
    if not (colon and port.isdecimal() and int(port) <= 65535):
        raise _Wrong(f"{text!r} is not an address with a port", remedy)
    host = host.removeprefix("[").removesuffix("]")
    try:
        ip_address(host)
    except ValueError:
        raise _Wrong(f"{host!r} is not an IP address", remedy) from None
    return host, int(port)


def _name(value: object) -> str:
    text = _text(value)
    if not _NAME.fullmatch(text):
        raise _Wrong(f"{text!r} is not a name", "Give 1 to 64 letters, digits, dots, dashes or underscores")
    return text


def _turn_urls(value: object) -> tuple[str, ...]:
    for part in _list(value):
        if not _TURN_URL.fullmatch(part):
            remedy = "Give turn:host:3478, turns:host:5349 or stun:host:3478, with ?transport=tcp where wanted"
            raise _Wrong(f"{part!r} is no TURN or STUN address", remedy)
    return tuple(_list(value))


def _level(value: object) -> str:
    level = _text(value).lower()
    if level not in LOG_LEVELS:
        raise _Wrong(f"{value!r} is no log level", f"Give one of {', '.join(LOG_LEVELS)}")
    return level


def _secret(least_chars: int) -> Callable[[object], str]:
    def read(value: object) -> str:
        text = _text(value)
        if len(text) < least_chars:
            raise _Wrong("it is too short", f"Give at least {least_chars} characters")  # the value stays unsaid
        return text

    return read


def _recording_keys(value: object) -> tuple[MasterKey, ...]:
    remedy = "Give name:key, the key being 32 bytes in base64 (openssl rand -base64 32); the first seals new recordings"
    try:
        return read_keys(_list(value))
    except BadKeys as error:
        raise _Wrong(str(error), remedy) from None


def _recording_keys_file(value: object) -> tuple[MasterKey, ...]:
    path = _path(value)
    try:
        return read_keys(path.read_text().splitlines())
    except OSError as error:
        raise _Wrong(f"{path} can't be read ({error.strerror})", "Let the user that runs Patchbay read it") from None
    except (BadKeys, UnicodeDecodeError) as error:
        remedy = "Write one key a line, name:key, the key being 32 bytes in base64 (openssl rand -base64 32)"
        raise _Wrong(f"{path}: {error}", remedy) from None


# --- the settings ------------------------------------------------------------------------------------


def _by(read: Callable[[object], Any], help_text: str) -> dict[str, Any]:
    return {"read": read, "help": help_text}


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting. `docs/operations.md` lists them from here."""

    host: str = field(default="127.0.0.1", metadata=_by(_text, "address to listen on"))
    port: int = field(default=8080, metadata=_by(_integer(0, 65535), "TCP port to listen on; 0 lets the system choose"))
    data_dir: Path = field(
        default=Path("data"), metadata=_by(_path, "database, recordings and keys; created for this user only")
    )
    database_url: str = field(default="", metadata=_by(_database_url, "default: patchbay.db in the data directory"))
    redis_url: str | None = field(
        default=None, metadata=_by(_redis_url, "needed with PostgreSQL: the router's index and the nodes' wake-ups")
    )
    node_name: str = field(
        default="", metadata=_by(_name, "this control node's own name among the nodes; default: host name and port")
    )
    drain_s: int | None = field(
        default=None,
        metadata=_by(
            _integer(0, MAX_DRAIN_S),
            "how long a part that is told to stop lets its work move elsewhere; default: 45 with PostgreSQL, else 0",
        ),
    )
    recordings_dir: Path | None = field(
        default=None,
        metadata=_by(_path, "finished recordings; one folder for all control nodes; default: in the data directory"),
    )
    recording_keys: tuple[MasterKey, ...] = field(
        default=(),
        repr=False,
        metadata=_by(
            _recording_keys,
            "master keys of the recordings, name:base64; the first seals new ones; the same on all control nodes; "
            "default: one made at the first start",
        ),
    )
    recording_keys_file: tuple[MasterKey, ...] = field(
        default=(), repr=False, metadata=_by(_recording_keys_file, "a file of such keys, one a line, instead")
    )
    tls_cert: Path | None = field(
        default=None, metadata=_by(_file, "certificate chain, PEM; browsers give no microphone without TLS")
    )
    tls_key: Path | None = field(default=None, metadata=_by(_file, "private key, PEM"))
    trusted_proxies: tuple[Network, ...] = field(
        default=(),
        metadata=_by(_networks, "networks whose X-Forwarded-For and X-Forwarded-Proto are believed"),
    )
    public_url: str | None = field(
        default=None, metadata=_by(_public_url, "the address that browsers use; the only origin accepted")
    )
    media_workers: int = field(
        default=os.cpu_count() or 1, metadata=_by(_integer(1, 256), "media processes; default: CPU cores")
    )
    media_urls: tuple[tuple[str, str], ...] = field(
        default=(),
        metadata=_by(_media_urls, "media workers on other machines, name=wss://host:port; instead of own ones"),
    )
    media_token: str | None = field(
        default=None,
        metadata=_by(
            _secret(MIN_MEDIA_TOKEN_CHARS), "what control nodes show to remote media workers; the same on both"
        ),
    )
    media_ca: Path | None = field(
        default=None,
        metadata=_by(_file, "certificates that remote media workers are checked against; default: the system's"),
    )
    media_listen: tuple[str, int] | None = field(
        default=None,
        metadata=_by(_listen, "with --role media: address:port for the control nodes, TLS by PATCHBAY_TLS_CERT"),
    )
    media_name: str = field(
        default="media-1", metadata=_by(_name, "with --role media: the worker's name, as in PATCHBAY_MEDIA_URLS")
    )
    media_bind: tuple[str, ...] = field(default=(), metadata=_by(_addresses, "local addresses for media; default: all"))
    media_announce: tuple[str, ...] = field(
        default=(), metadata=_by(_addresses, "addresses told to browsers, when behind NAT")
    )
    media_ports: tuple[int, int] | None = field(
        default=None, metadata=_by(_ports, "UDP range for media; default: any port")
    )
    media_compiled: bool = field(
        default=True, metadata=_by(_boolean, "the usual packet's way is compiled code, where there is any")
    )
    turn_urls: tuple[str, ...] = field(
        default=(), metadata=_by(_turn_urls, "TURN and STUN servers for browsers, turn:host:3478 and the like")
    )
    turn_secret: str | None = field(
        default=None,
        metadata=_by(_secret(MIN_TURN_SECRET_CHARS), "coturn's static-auth-secret; credentials are made from it"),
    )
    turn_relay_only: bool = field(
        default=False, metadata=_by(_boolean, "browsers use the TURN server only, never a direct path")
    )
    log_level: str = field(default="info", metadata=_by(_level, "debug, info, warning or error"))
    log_json: bool | None = field(default=None, metadata=_by(_boolean, "default: JSON unless a terminal reads"))
    metrics_token: str | None = field(
        default=None,
        metadata=_by(_secret(MIN_METRICS_TOKEN_CHARS), "lets /metrics be read from elsewhere, as a bearer token"),
    )
    otel_endpoint: str | None = field(
        default=None,
        metadata=_by(_url_of("http", "https"), "OTLP/HTTP collector for traces, such as http://localhost:4318"),
    )
    session_cookie_hours: int = field(default=12, metadata=_by(_integer(1, 24 * 30), "how long a login lasts"))
    demo_password: str | None = field(
        default=None,
        metadata=_by(_secret(MIN_DEMO_PASSWORD_CHARS), "password of the demo accounts; default: a generated one"),
    )

    @property
    def tls(self) -> bool:
        return self.tls_cert is not None

    @property
    def postgres(self) -> bool:
        """The database is shared: other control nodes may serve it, too."""
        return self.database_url.startswith("postgresql")

    @property
    def drain_seconds(self) -> int:
        return self.drain_s if self.drain_s is not None else (45 if self.postgres else 0)

    @property
    def archive_dir(self) -> Path:
        return self.recordings_dir or self.data_dir / "recordings"

    @property
    def master_keys(self) -> tuple[MasterKey, ...]:
        """Those that are set; empty where the server is to make one."""
        return self.recording_keys or self.recording_keys_file

    @property
    def own_url(self) -> str:
        """Where this server is reached, as far as its settings tell."""
        host = "localhost" if self.host in ("0.0.0.0", "::") else self.host
        host = f"[{host}]" if ":" in host else host
        return self.public_url or f"{'https' if self.tls else 'http'}://{host}:{self.port}"


NAMES = tuple(setting.name for setting in fields(Config))
# Names in the environment that are not settings: where the file is.
_OTHER_ENV = (ENV_PREFIX + "CONFIG",)


def load(environ: Mapping[str, str], config_file: Path | None = None) -> Config:
    """The settings from `config_file` (else PATCHBAY_CONFIG, if set) and `environ`.

    Raises ConfigError, which holds all faults."""
    faults: list[Fault] = []
    raw = _from_file(environ, config_file, faults) | _from_environment(environ, faults)
    values: dict[str, Any] = {}
    for setting in fields(Config):
        if setting.name in raw:
            label, value = raw[setting.name]
            try:
                values[setting.name] = setting.metadata["read"](value)
            except _Wrong as wrong:
                faults.append(Fault(label, wrong.wrong, wrong.remedy))
    _check_together(raw, values, faults)
    if faults:
        raise ConfigError(faults)
    data_dir = values.setdefault("data_dir", Path("data").absolute())
    values.setdefault("database_url", f"sqlite+aiosqlite:///{data_dir / 'patchbay.db'}")
    return Config(**values)


def make_data_dir(config: Config) -> None:
    """Create the data directory, readable by this user only. Raises ConfigError."""
    try:
        config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(config.data_dir, os.W_OK | os.X_OK):
            raise PermissionError(f"{config.data_dir} is not writable")
    except OSError as error:
        remedy = "Give a directory that the user that runs Patchbay may write to"
        raise ConfigError([Fault("data_dir", str(error), remedy)]) from None


def _from_file(
    environ: Mapping[str, str], config_file: Path | None, faults: list[Fault]
) -> dict[str, tuple[str, object]]:
    named = environ.get(ENV_PREFIX + "CONFIG", "").strip()
    path = config_file or (Path(named) if named else None)
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        faults.append(Fault(str(path), f"can't be read ({error.strerror})", "Check --config or PATCHBAY_CONFIG"))
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        faults.append(Fault(str(path), f"is not TOML ({error})", "Correct that line"))
        return {}
    return {name: (name, value) for name, value in content.items() if _known(name, name, NAMES, faults)}


def _from_environment(environ: Mapping[str, str], faults: list[Fault]) -> dict[str, tuple[str, object]]:
    known = [ENV_PREFIX + name.upper() for name in NAMES]
    found: dict[str, tuple[str, object]] = {}
    for label, value in environ.items():
        if label.startswith(ENV_PREFIX) and label not in _OTHER_ENV and _known(label, label, known, faults):
            found[label.removeprefix(ENV_PREFIX).lower()] = (label, value)
    return found


def _known(name: str, label: str, known: list[str] | tuple[str, ...], faults: list[Fault]) -> bool:
    if name in known:
        return True
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    remedy = f"Did you mean {near[0]}?" if near else f"Remove it; settings are {', '.join(known)}"
    faults.append(Fault(label, "no such setting", remedy))
    return False


def _check_together(raw: Mapping[str, tuple[str, object]], values: Mapping[str, Any], faults: list[Fault]) -> None:
    for one, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if one in raw and other not in raw:
            faults.append(Fault(other, f"missing while {one} is set", "Set both, or neither"))
    if values.get("database_url", "").startswith("postgresql") and "redis_url" not in raw:
        faults.append(Fault("redis_url", "missing while database_url is PostgreSQL", "Give redis://host:6379/0"))
    if "redis_url" in raw and "database_url" in values and not values["database_url"].startswith("postgresql"):
        faults.append(Fault("redis_url", "of no use with SQLite", "Give a PostgreSQL database_url too, or remove it"))
    if "redis_url" in raw and "database_url" not in raw:
        faults.append(
            Fault("database_url", "missing while redis_url is set", "Give a PostgreSQL address, or remove both")
        )
    if values.get("database_url", "").startswith("postgresql") and "media_urls" in raw and "recordings_dir" not in raw:
        remedy = "Give one folder that every control node reaches, since any of them may be asked for a recording"
        faults.append(Fault("recordings_dir", "missing while several control nodes may serve", remedy))
    if "recording_keys" in raw and "recording_keys_file" in raw:
        faults.append(Fault("recording_keys_file", "set beside recording_keys", "Give one of the two"))
    for setting in ("media_urls", "media_listen"):
        if setting in raw and "media_token" not in raw:
            faults.append(Fault("media_token", f"missing while {setting} is set", "Give both sides the same token"))
    if "turn_secret" in raw and "turn_urls" not in raw:
        faults.append(Fault("turn_urls", "missing while turn_secret is set", "Set both, or neither"))
    relayed = any(url.startswith("turn") for url in values.get("turn_urls", ()))
    if relayed and "turn_secret" not in raw:
        faults.append(
            Fault("turn_secret", "missing while turn_urls names a TURN server", "Give coturn's static-auth-secret")
        )
    if values.get("turn_relay_only") and not relayed:
        faults.append(Fault("turn_relay_only", "no TURN server is named", "Give turn_urls and turn_secret, too"))
    directory = values.get("data_dir")
    if directory is not None and directory.exists() and not directory.is_dir():
        faults.append(Fault(raw["data_dir"][0], f"{directory} is not a directory", "Give a directory"))


def describe() -> list[tuple[str, str, str]]:
    """(environment name, default, help) of each setting, for the help text and the documentation."""
    return [
        (
            ENV_PREFIX + setting.name.upper(),
            "" if setting.default in (MISSING, None, (), "") else str(setting.default),
            setting.metadata["help"],
        )
        for setting in fields(Config)
    ]
