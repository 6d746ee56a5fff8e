"""The command line: `patchbay` or `python -m server`."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import uvloop

from server import __version__, cli, log
from server.config import Config, ConfigError, load, make_data_dir
from server.process import EXIT_CONFIG, die_with_parent


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its status: 0 done, 1 failed, 2 wrong usage, 78 wrong settings."""
    given = _parser().parse_args(arguments)
    os.umask(0o077)  # the database, recordings and keys are this user's alone
    try:
        config = load(os.environ, given.config)
        make_data_dir(config)
    except ConfigError as error:
        print(f"These settings can't be used:\n{error}", file=sys.stderr)
        raise SystemExit(EXIT_CONFIG) from None
    log.configure(config.log_level, config.log_json)
    command: Callable[[Config, argparse.Namespace], Awaitable[int]] = given.run
    if getattr(given, "role", None) == "control":
        die_with_parent()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            status = runner.run(_run(command, config, given))
        except KeyboardInterrupt:
            status = 130
    raise SystemExit(status)


async def _run(
    command: Callable[[Config, argparse.Namespace], Awaitable[int]], config: Config, given: argparse.Namespace
) -> int:
    try:
        return await command(config, given)
    except cli.CommandFailed as failure:
        print(f"patchbay: {failure}", file=sys.stderr)
        return failure.status


async def _simulate(config: Config, given: argparse.Namespace) -> int:
    from server import simulate  # NumPy and the policy, which no other command needs

    return await simulate.run(config, given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="patchbay", description="A WebRTC-first contact center.")
    parser.add_argument("--version", action="version", version=f"patchbay {__version__}")
    parser.add_argument("--config", type=Path, help="a TOML file with settings (the environment wins)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the control node and the media workers, until Ctrl-C")
    serve.add_argument("--demo", action="store_true", help="seed the demo first, and print its logins")
    serve.add_argument("--role", choices=("all", "control", "media"), default="all", help="one part only")
    serve.add_argument("--run-dir", type=Path, help="with --role: the folder of the workers' sockets")
    serve.set_defaults(run=cli.serve)

    migrate = commands.add_parser("migrate", help="bring the database to this version's schema")
    migrate.add_argument(
        "--phase",
        choices=("pre", "post", "all"),
        default="all",
        help="pre: before the first node of a new version starts; post: when the last of the old one is gone",
    )
    migrate.set_defaults(run=cli.migrate)

    seed = commands.add_parser("seed", help="make what every center needs; with --demo, people and queues to try")
    seed.add_argument("--demo", action="store_true")
    seed.set_defaults(run=cli.seed)

    user = commands.add_parser("user", help="add a user, or give one a new password")
    user.add_argument("action", choices=("add", "password"), help="add: a new user; password: a new password for one")
    user.add_argument("login", help="what the person signs in with")
    user.add_argument("--name", help="shown to colleagues and customers (default: the login)")
    user.add_argument("--role", dest="user_role", choices=("admin", "supervisor", "agent"), default="agent")
    user.add_argument("--ask", action="store_true", help="ask for the password (default: a generated one is printed)")
    user.set_defaults(run=cli.user, ask_password=lambda: getpass.getpass("New password: "))

    call = commands.add_parser("testcall", help="a caller without a browser: plays a tone, prints what it hears")
    call.add_argument("--url", help="where Patchbay answers (default: this machine, from the settings)")
    call.add_argument("--key", help="the widget key (default: the first entry point in the database)")
    call.add_argument("--tone", type=float, default=440.0, help="Hz (default 440)")
    call.add_argument("--file", type=Path, help="play an audio file instead of the tone")
    call.add_argument("--seconds", type=float, default=60.0, help="hang up after this long (default 60)")
    call.add_argument("--name", default="Test call", help="the caller's name in the console")
    call.set_defaults(run=cli.testcall)

    what_if = commands.add_parser("simulate", help="play a recorded or made-up span again, as it was and with a change")
    what_if.add_argument("--from", dest="since", help="the first day (2026-01-05), or a moment with a zone")
    what_if.add_argument("--to", dest="until", help="the last day, or a moment with a zone (default: the first day)")
    what_if.add_argument("--zone", default="UTC", help="the time zone of days, such as Europe/Berlin (default UTC)")
    what_if.add_argument("--change", type=Path, metavar="FILE", help="what is to be different (TOML or JSON)")
    what_if.add_argument(
        "--synthetic", type=Path, metavar="FILE", help="a day that is made up, instead of a recorded one"
    )
    what_if.add_argument("--seed", type=int, default=1, help="of what is drawn (default 1)")
    what_if.set_defaults(run=_simulate)

    doctor = commands.add_parser("doctor", help="say what is missing here and how to get it")
    doctor.set_defaults(run=cli.doctor)
    return parser


if __name__ == "__main__":
    main()
