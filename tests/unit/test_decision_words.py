"""Decisions in sentences: every language says all of them, and each case says what the data says."""

from __future__ import annotations

import string

import pytest

from server.domain.queue_routing import Strategy
from server.signaling.decision_words import RANKED, SENTENCES, Told, words
from server.signaling.locales import LOCALES

ANN = Told("Ann", "longest_idle", "", 0, 0)


def slots(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def test_each_language_says_every_sentence_with_the_same_slots() -> None:
    assert set(SENTENCES) == set(LOCALES)
    english = SENTENCES["en"]
    for locale, sentences in SENTENCES.items():
        assert sentences.keys() == english.keys(), locale
        for key in english:
            assert slots(sentences[key]) == slots(english[key]), (locale, key)


@pytest.mark.parametrize("strategy", sorted(RANKED))
def test_each_strategy_has_its_own_words(strategy: str) -> None:
    told = Told("Ann", strategy, "", 0, 0, {"able": 2, "break": 1})
    (first, others) = words(told, "en")
    assert first.startswith("Ann was chosen: of 3 who could take it, this agent ha")
    assert others == "Not asked: 2 free for it, too, 1 on a break."


def test_all_strategies_are_told() -> None:
    assert {*RANKED, "ring_all"} == {strategy.value for strategy in Strategy}


def test_a_strategy_and_a_reason_of_a_newer_version_are_told_as_far_as_they_are_known() -> None:
    assert words(Told("Ann", "by_moon", "", 0, 0, {"able": 1, "asleep": 2}), "en") == [
        "Ann was chosen of 2 who could take it.",
        "Not asked: 1 free for it, too, 2 asleep.",
    ]


def test_in_chinese_and_in_a_language_that_we_do_not_speak() -> None:
    assert words(Told("陈静", "longest_idle", "中文 >= 5", 1, 31_000, {"lacks_skill": 3}), "zh-CN") == [
        "选中 陈静：没有其他人可以接听。",
        "等待 31 秒后的要求：中文 >= 5。",
        "未询问：3 名缺少所需技能。",
    ]
    assert words(ANN, "xx") == words(ANN, "en") == ["Ann was chosen: nobody else could take it."]


def test_who_waits_is_told_why() -> None:
    def waiting(**more: object) -> list[str]:
        return words(Told(None, "longest_idle", "sales", 0, 0, {"able": 2, "break": 1}, place=3, **more), "en")  # type: ignore[arg-type]

    assert waiting() == [
        "It waits at place 3.",
        "Agents who could take it: 2. It is about to be offered, after those before it.",
        "Asked for: sales.",
        "Not asked: 1 on a break.",
    ]
    assert waiting(held=True)[1].startswith("It is not offered now")
    assert len(waiting(held=True)) == 2
    assert waiting(ringing=4)[1] == "Agents for whom it rings: 4. Who accepts first gets it."
    assert waiting(sticky=True)[1:] == ["It waits for the agent whom this customer last had.", "Asked for: sales."]
