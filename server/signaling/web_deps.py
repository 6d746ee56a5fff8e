"""What the web application is built from. app.py fills it; nothing in signaling constructs an adapter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from server.services.admin import AdminService
from server.services.admin_ports import Availability, Directory, Explanations, History, Readiness, RecordingFiles
from server.services.auth import AuthService
from server.services.call_control import TransferTargets
from server.services.floor import FloorService
from server.services.ports import Clock
from server.services.rate_limits import Rate
from server.services.reports import ReportService
from server.services.steering import SteeringService
from server.services.supervision import SupervisionService
from server.services.tokens import CustomerTokens
from server.services.turn import NO_TURN, TurnSettings
from server.services.users import UserService
from server.services.whatif import WhatIfService
from server.signaling.proxies import Network

ALL_REQUESTS = Rate(burst=1200, period_s=60)  # an office of 100 consoles behind one NAT
WIDGET_VIEWS = Rate(burst=240, period_s=60)
NEW_SESSIONS = Rate(burst=30, period_s=60)  # a person calls once; a company behind one NAT calls more often
NEW_SESSIONS_PER_KEY = Rate(burst=600, period_s=60)  # over all addresses, to bound what a flood makes


@dataclass(frozen=True, slots=True)
class WebLimits:
    """Requests per client address (an IPv4 address, or a /64 of IPv6)."""

    all_requests: Rate = ALL_REQUESTS
    widget_views: Rate = WIDGET_VIEWS
    new_sessions: Rate = NEW_SESSIONS
    new_sessions_per_key: Rate = NEW_SESSIONS_PER_KEY


async def nothing_to_refresh() -> None:
    """All figures are as new as they can be."""


@dataclass(frozen=True, slots=True)
class WebDeps:
    auth: AuthService
    admin: AdminService
    users: UserService
    floor: FloorService
    supervision: SupervisionService
    targets: TransferTargets
    steering: SteeringService
    tokens: CustomerTokens
    directory: Directory
    history: History
    reports: ReportService
    whatif: WhatIfService
    availability: Availability
    explanations: Explanations
    recordings: RecordingFiles
    readiness: Readiness
    clock: Clock
    registry: CollectorRegistry
    static_dir: Path  # what Vite built
    version: str
    public_url: str | None = None
    trusted_proxies: tuple[Network, ...] = ()
    metrics_token: str | None = None
    turn: TurnSettings = NO_TURN
    limits: WebLimits = WebLimits()
    refresh_metrics: Callable[[], Awaitable[None]] = nothing_to_refresh  # before each scrape
