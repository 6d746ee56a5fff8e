"""The language of requirements: what it means, what it refuses and where, and that it reads back as it was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain.requirements import (
    ANYONE,
    AllOf,
    AnyOf,
    Not,
    Requirement,
    RequirementFault,
    SkillLevels,
    from_json,
    keys_of,
    meets,
    parse,
    skills_of,
    to_json,
    write,
)

NAMES = {"skl_en": "English", "skl_bi": "Billing", "skl_re": "refunds", "skl_vip": 'VIP, "gold"', "skl_or": "or"}
IDS = {name.casefold(): skill_id for skill_id, name in NAMES.items()}
LEVELS = {"skl_en": 5, "skl_bi": 2}


def true(text: str, **levels: int) -> bool:
    return meets(parse(text, IDS), lambda skill: (levels or LEVELS).get(skill, 0))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("english >= 5 and (billing or refunds)", True),
        ("ENGLISH >= 6", False),
        ("english > 5", False),
        ("english > 4", True),
        ("english = 5", True),
        ("english < 5", False),
        ("refunds <= 3", True),
        ("not refunds", True),
        ("not (english and billing)", False),
        ("refunds or english and billing", True),
        ("(refunds or english) and refunds", False),
        ('"VIP, ""gold"""', False),
        ('not "or"', True),
        ("anyone", True),
        ("", True),
    ],
)
def test_what_it_means(text: str, wanted: bool) -> None:
    assert true(text) is wanted


@pytest.mark.parametrize(
    ("text", "code", "column", "message"),
    [
        ("english >= ", "unexpected", 12, "expected a level from 1 to 10, found the end"),
        ("english >= 11", "bad_level", 12, "expected a level from 1 to 10, found 11"),
        ("english > 10", "bad_level", 11, "no level is above 10"),
        ("english = 0010000", "bad_level", 11, "expected a level from 1 to 10, found 0010000"),
        ("english = 0", "bad_level", 11, "expected a level from 1 to 10, found 0"),
        ("english and", "unexpected", 12, "expected a skill, 'not', 'anyone' or '(', found the end"),
        ("english billing", "unexpected", 9, "expected 'and', 'or' or the end, found 'billing'"),
        ("(english or billing", "unexpected", 20, "expected ')', 'and' or 'or', found the end"),
        ("english and spanish", "unknown_skill", 13, "there is no skill 'spanish'"),
        ("english & billing", "unexpected", 9, "unexpected '&'"),
        ('english or "VIP', "unexpected", 12, "the closing quote is missing"),
        ("(" * 30 + "english" + ")" * 30, "too_deep", 22, "nested deeper than 20 levels"),
        ("english or " * 60 + "english", "too_long", 501, "more than 500 characters"),
    ],
)
def test_what_it_refuses(text: str, code: str, column: int, message: str) -> None:
    with pytest.raises(RequirementFault) as caught:
        parse(text, IDS)
    assert (caught.value.code, caught.value.column, caught.value.message) == (code, column, message)


levels = st.tuples(st.integers(0, 10), st.integers(0, 10)).map(sorted).filter(lambda pair: pair != [0, 10])
leaves = st.builds(lambda skill, pair: SkillLevels(skill, *pair), st.sampled_from(sorted(NAMES)), levels)
requirements: st.SearchStrategy[Requirement] = st.recursive(
    leaves | st.just(ANYONE),
    lambda inner: (
        st.builds(Not, inner)
        | st.lists(inner, min_size=2, max_size=3).map(lambda parts: AllOf(tuple(parts)))
        | st.lists(inner, min_size=2, max_size=3).map(lambda parts: AnyOf(tuple(parts)))
    ),
    max_leaves=8,
)
held = st.dictionaries(st.sampled_from(sorted(NAMES)), st.integers(1, 10))


@given(requirements, held)
def test_it_reads_back_as_it_was_written(requirement: Requirement, has: dict[str, int]) -> None:
    again = parse(write(requirement, NAMES), IDS) if len(write(requirement, NAMES)) <= 500 else requirement
    stored = from_json(to_json(requirement))
    assert stored == requirement
    assert meets(again, lambda skill: has.get(skill, 0)) is meets(requirement, lambda skill: has.get(skill, 0))
    assert skills_of(again) == skills_of(requirement)


@given(requirements, held)
def test_who_meets_it_has_one_of_its_keys(requirement: Requirement, has: dict[str, int]) -> None:
    keys = keys_of(requirement)
    if keys is not None and meets(requirement, lambda skill: has.get(skill, 0)):
        assert keys & has.keys()


@given(st.text(alphabet="aeglnhis ()<>=0159\"'&orndt", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        requirement = parse(text, IDS)
    except RequirementFault as fault:
        said = (fault.column, fault.message)
    else:
        said = (1, write(requirement, NAMES))
    assert 1 <= said[0] <= len(text) + 1
    assert said[1]


def test_a_stored_form_of_another_kind_is_refused() -> None:
    values: tuple[object, ...] = (None, [], ["skill", 1], ["maybe"], {"all": []}, "all")
    for value in values:
        with pytest.raises(ValueError, match="not a requirement"):
            from_json(value)
