"""What a session asks of an agent: `english >= 5 and (billing or refunds)`.

    requirement := all ("or" all)*          all  := one ("and" one)*
    one         := "not" one | "(" requirement ")" | "anyone" | skill [(">=" | ">" | "=" | "<" | "<=") level]
    skill       := a word, or any name in double quotes, where two of them stand for one

A skill alone means level 1 or more; who lacks a skill has level 0 in it. Skills are kept by id, so a renamed skill
changes no rule; people write and read their names. Faults name the column (from 1) and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

MAX_LENGTH = 500
MAX_DEPTH = 20
MAX_LEVEL = 10
Level = Callable[[str], int]  # skill id -> an agent's level, 0 without it


@dataclass(frozen=True, slots=True)
class SkillLevels:
    """The level in a skill lies between `low` and `high`, both included."""

    skill_id: str
    low: int = 1
    high: int = MAX_LEVEL


@dataclass(frozen=True, slots=True)
class AllOf:
    parts: tuple[Requirement, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    parts: tuple[Requirement, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Requirement


Requirement = SkillLevels | AllOf | AnyOf | Not
ANYONE = AllOf(())


class RequirementFault(Exception):
    """`code`: too_long, too_deep, unexpected, unknown_skill, bad_level. `column` counts from 1."""

    def __init__(self, code: str, column: int, message: str) -> None:
        super().__init__(f"column {column}: {message}")
        self.code = code
        self.column = column
        self.message = message


def meets(requirement: Requirement, level: Level) -> bool:
    match requirement:
        case SkillLevels(skill_id, low, high):
            return low <= level(skill_id) <= high
        case AllOf(parts):
            return all(meets(part, level) for part in parts)
        case AnyOf(parts):
            return any(meets(part, level) for part in parts)
        case Not(part):
            return not meets(part, level)


def skills_of(requirement: Requirement) -> frozenset[str]:
    """Every skill that is named."""
    match requirement:
        case SkillLevels(skill_id):
            return frozenset({skill_id})
        case Not(part):
            return skills_of(part)
        case AllOf(parts) | AnyOf(parts):
            return frozenset().union(*map(skills_of, parts))


def keys_of(requirement: Requirement) -> frozenset[str] | None:
    """Skills of which whoever meets the requirement has at least one; None when somebody may meet it without any."""
    match requirement:
        case SkillLevels(skill_id, low):
            return frozenset({skill_id}) if low > 0 else None
        case AllOf(parts):
            found = [keys for keys in map(keys_of, parts) if keys is not None]
            return min(found, key=len, default=None)
        case AnyOf(parts):
            each = [keys_of(part) for part in parts]
            return None if None in each or not each else frozenset().union(*(keys for keys in each if keys))
        case Not(_):
            return None


# --- text --------------------------------------------------------------------------------------------


_TOKEN = re.compile(
    r'\s*(?:(?P<name>[^\W\d][\w.\-]*)|"(?P<quoted>(?:[^"]|"")*)"|(?P<number>\d+)|(?P<sign>>=|<=|[<>=()]))', re.U
)
_KEYWORDS = frozenset({"and", "or", "not", "anyone"})
_RANGES: dict[str, Callable[[int], tuple[int, int]]] = {
    ">=": lambda n: (n, MAX_LEVEL),
    ">": lambda n: (n + 1, MAX_LEVEL),
    "=": lambda n: (n, n),
    "<=": lambda n: (0, n),
    "<": lambda n: (0, n - 1),
}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # name, number, a keyword, a sign, or end
    text: str
    column: int


def parse(text: str, ids: Mapping[str, str]) -> Requirement:
    """`ids`: skill ids by casefolded name. Empty text is `anyone`. Raises RequirementFault."""
    if len(text) > MAX_LENGTH:
        raise RequirementFault("too_long", MAX_LENGTH + 1, f"more than {MAX_LENGTH} characters")
    if not text.strip():
        return ANYONE
    parser = _Parser(list(_tokens(text)), ids)
    found = parser.any_of(0)
    parser.expect_end()
    return found


def write(requirement: Requirement, names: Mapping[str, str]) -> str:
    """The text of a requirement; `names`: skill names by id. An unknown id stands for itself."""
    return _write(requirement, names, 0)


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while match := _TOKEN.match(text, at):
        column = match.start(match.lastgroup or 0) + 1
        word = match.group(match.lastgroup or 0)
        if match.lastgroup == "quoted":
            yield _Token("name", word.replace('""', '"'), column - 1)
        elif match.lastgroup == "name":
            yield _Token(word.lower() if word.lower() in _KEYWORDS else "name", word, column)
        else:
            yield _Token("number" if match.lastgroup == "number" else word, word, column)
        at = match.end()
    rest = text[at:]
    if rest.strip():
        column = at + len(rest) - len(rest.lstrip()) + 1
        what = "the closing quote is missing" if rest.lstrip()[0] == '"' else f"unexpected {rest.lstrip()[0]!r}"
        raise RequirementFault("unexpected", column, what)
    yield _Token("end", "", len(text) + 1)


class _Parser:
    def __init__(self, tokens: list[_Token], ids: Mapping[str, str]) -> None:
        self._tokens = tokens
        self._ids = ids
        self._at = 0

    def any_of(self, depth: int) -> Requirement:
        return self._chain("or", AnyOf, lambda: self._chain("and", AllOf, lambda: self._one(depth)))

    def expect_end(self) -> None:
        if self._next.kind != "end":
            raise self._unexpected("'and', 'or' or the end")

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def _chain(
        self, word: str, kind: Callable[[tuple[Requirement, ...]], Requirement], one: Callable[[], Requirement]
    ) -> Requirement:
        parts = [one()]
        while self._next.kind == word:
            self._take()
            parts.append(one())
        return parts[0] if len(parts) == 1 else kind(tuple(parts))

    def _one(self, depth: int) -> Requirement:
        if depth > MAX_DEPTH:
            raise RequirementFault("too_deep", self._next.column, f"nested deeper than {MAX_DEPTH} levels")
        match self._next.kind:
            case "not":
                self._take()
                return Not(self._one(depth + 1))
            case "anyone":
                self._take()
                return ANYONE
            case "(":
                self._take()
                inner = self.any_of(depth + 1)
                if self._take().kind != ")":
                    self._at -= 1
                    raise self._unexpected("')', 'and' or 'or'")
                return inner
            case "name":
                return self._skill()
        raise self._unexpected("a skill, 'not', 'anyone' or '('")

    def _skill(self) -> Requirement:
        token = self._take()
        skill_id = self._ids.get(token.text.casefold())
        if skill_id is None:
            raise RequirementFault("unknown_skill", token.column, f"there is no skill {token.text!r}")
        if self._next.kind not in _RANGES:
            return SkillLevels(skill_id)
        low_high = _RANGES[self._take().kind]
        level = self._next
        if level.kind != "number":
            raise self._unexpected("a level from 1 to 10")
        if not 1 <= int(level.text) <= MAX_LEVEL:
            raise RequirementFault("bad_level", level.column, f"expected a level from 1 to 10, found {level.text[:20]}")
        self._take()
        low, high = low_high(int(level.text))
        if low > high:
            raise RequirementFault("bad_level", level.column, "no level is above 10")
        return SkillLevels(skill_id, low, high)

    def _unexpected(self, expected: str) -> RequirementFault:
        token = self._next
        found = "the end" if token.kind == "end" else repr(token.text[:40])
        return RequirementFault("unexpected", token.column, f"expected {expected}, found {found}")


def _write(requirement: Requirement, names: Mapping[str, str], binding: int) -> str:
    """`binding`: how tightly what stands around binds (0 nothing, 1 or, 2 and, 3 not)."""
    match requirement:
        case AllOf(()):
            return "anyone"
        case SkillLevels(skill_id, low, high):
            return _write_levels(_name(names.get(skill_id, skill_id)), low, high, binding)
        case AllOf(parts):
            words = " and ".join(_write(part, names, 2) for part in parts)
            return f"({words})" if binding >= 2 else words
        case AnyOf(parts):
            words = " or ".join(_write(part, names, 1) for part in parts)
            return f"({words})" if binding >= 1 else words
        case Not(part):
            return f"not {_write(part, names, 3)}"


def _write_levels(name: str, low: int, high: int, binding: int) -> str:
    if low == high:
        return f"{name} = {low}" if low else f"not {name}"
    if high == MAX_LEVEL:
        return name if low == 1 else f"{name} >= {low}"
    if low == 0:
        return f"{name} <= {high}"
    words = f"{name} >= {low} and {name} <= {high}"
    return f"({words})" if binding >= 2 else words


def _name(name: str) -> str:
    match = _TOKEN.fullmatch(name)
    bare = match is not None and match.lastgroup == "name" and name.lower() not in _KEYWORDS
    return name if bare else '"' + name.replace('"', '""') + '"'


# --- stored form -------------------------------------------------------------------------------------


def to_json(requirement: Requirement) -> list[object]:
    match requirement:
        case SkillLevels(skill_id, low, high):
            return ["skill", skill_id, low, high]
        case AllOf(parts):
            return ["all", *map(to_json, parts)]
        case AnyOf(parts):
            return ["any", *map(to_json, parts)]
        case Not(part):
            return ["not", to_json(part)]


def from_json(value: object) -> Requirement:
    """Raises ValueError for what `to_json` does not write."""
    match value:
        case ["skill", str(skill_id), int(low), int(high)]:
            return SkillLevels(skill_id, low, high)
        case ["all", *parts]:
            return AllOf(tuple(map(from_json, parts)))
        case ["any", *parts]:
            return AnyOf(tuple(map(from_json, parts)))
        case ["not", part]:
            return Not(from_json(part))
    raise ValueError(f"not a requirement: {value!r}")
