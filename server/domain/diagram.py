"""The state machines as Markdown, drawn from their tables: `make states` writes docs/states.md."""

from __future__ import annotations

import inspect

from server.domain import agent, recording, segment, session
from server.domain.session_step import TRANSITIONS, over

HEAD = """# States

Drawn from the tables in `server/domain` (`make states`); a test holds this page to them.
"""


def states_page() -> str:
    """The whole page."""
    return "\n".join([HEAD, _sessions(), _segments(), _enum("Recording", recording), _agents()])


def _sessions() -> str:
    events = sorted({event.__name__ for _, event in TRANSITIONS})
    states = list(session.SessionState)
    lines = [
        "## Session",
        "",
        _waits(session.SessionState),
        "",
        "Which rule takes which event (– : late, counted, no change):",
        "",
    ]
    lines.append("| event | " + " | ".join(states) + " |")
    lines.append("| --- |" + " --- |" * len(states))
    by_name = {(state, event.__name__): rule for (state, event), rule in TRANSITIONS.items()}
    for event in events:
        cells = [by_name.get((state, event)) for state in states]
        shown = ["a bug" if rule is None else "–" if rule is over else f"`{rule.__name__}`" for rule in cells]
        lines.append(f"| {event} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def _segments() -> str:
    lines = ["## Segment", "", _waits(segment.SegmentState), "", "```mermaid", "stateDiagram-v2", "  [*] --> offered"]
    for state, targets in segment.NEXT.items():
        lines += [f"  {state} --> {target}" for target in sorted(targets)]
    lines += ["  done --> [*]", "```"]
    return "\n".join(lines) + "\n"


def _enum(title: str, module: object) -> str:
    doc = inspect.getdoc(module) or ""
    return f"## {title}\n\n{doc}\n"


def _agents() -> str:
    rules = ", ".join(f"`{event.__name__}`" for event in agent.RULES)
    return f"## Agent\n\n{inspect.getdoc(agent)}\n\nStates shown: {', '.join(agent.AgentState)}. Events: {rules}.\n"


def _waits(enum: type) -> str:
    """Who waits for what, from the comments beside the members."""
    rows = []
    for line in inspect.getsource(enum).splitlines():
        if "=" in line and "#" in line:
            name, _, waits = line.partition("#")
            rows.append(f"- **{name.split('=')[1].strip().strip(chr(34))}** waits for {waits.strip()}")
    return "\n".join(rows)
