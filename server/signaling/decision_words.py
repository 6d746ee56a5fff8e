"""A decision of the router told in sentences, in the reader's language. Pure.

A sentence is a template; a language that lacks one does not start (`tests/unit/test_decision_words.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from server.domain.queue_routing import Strategy

_EN = {
    "sticky": "{agent} was chosen: the agent whom this customer last had.",
    "ring_all": "{agent} was chosen: all who could take it are asked at once, the longest idle first.",
    "alone": "{agent} was chosen: nobody else could take it.",
    "longest_idle": "{agent} was chosen: of {able} who could take it, this agent had been idle longest.",
    "least_occupied": "{agent} was chosen: of {able} who could take it, this agent had been least occupied since "
    "login.",
    "best_skill": "{agent} was chosen: of {able} who could take it, this agent has the highest levels in the skills "
    "that are asked for.",
    "fewest_sessions": "{agent} was chosen: of {able} who could take it, this agent had answered the fewest sessions "
    "today.",
    "round_robin": "{agent} was chosen: of {able} who could take it, this agent had waited longest for an offer.",
    "some": "{agent} was chosen of {able} who could take it.",
    "rang": "Agents for whom it rang before: {ringing}.",
    "transferred": "{agent} was asked: {by} transferred the call to this agent.",
    "place": "It waits at place {place}.",
    "held": "It is not offered now: it rings already, its customer is reconnecting, or the place is kept for a "
    "customer who is away.",
    "rings": "Agents for whom it rings: {ringing}. Who accepts first gets it.",
    "waits_for_last": "It waits for the agent whom this customer last had.",
    "about": "Agents who could take it: {able}. It is about to be offered, after those before it.",
    "nobody": "No agent who could take it is free.",
    "asked": "Asked for: {requirement}.",
    "asked_after": "Asked for after {s} s of waiting: {requirement}.",
    "others": "Not asked: {parts}.",
    "comma": ", ",
    "other.able": "{n} free for it, too",
    "other.rejected_lately": "{n} who declined it a moment ago",
    "other.excluded": "{n} excluded from it",
    "other.lacks_skill": "{n} without the skills that are asked for",
    "other.not_the_last": "{n} not the agent whom this customer last had",
    "other.being_offered": "{n} being offered another session",
    "other.unreachable": "{n} without a live tab",
    "other.inactive": "{n} switched off",
    "other.ringing": "{n} with an offer ringing",
    "other.on_contact": "{n} on a contact",
    "other.wrap_up": "{n} in wrap-up",
    "other.break": "{n} on a break",
    "other.missed": "{n} who missed an offer",
}
_ZH = {
    "sticky": "选中 {agent}：上次为该客户服务的坐席。",
    "ring_all": "选中 {agent}：同时询问所有可接听的坐席，空闲最久者在先。",
    "alone": "选中 {agent}：没有其他人可以接听。",
    "longest_idle": "选中 {agent}：在 {able} 名可接听的坐席中空闲最久。",
    "least_occupied": "选中 {agent}：在 {able} 名可接听的坐席中，登录以来最不忙。",
    "best_skill": "选中 {agent}：在 {able} 名可接听的坐席中，所需技能的级别最高。",
    "fewest_sessions": "选中 {agent}：在 {able} 名可接听的坐席中，今天接听的会话最少。",
    "round_robin": "选中 {agent}：在 {able} 名可接听的坐席中，等待派单最久。",
    "some": "从 {able} 名可接听的坐席中选中 {agent}。",
    "rang": "此前已向 {ringing} 名坐席振铃。",
    "transferred": "已询问 {agent}：{by} 将通话转接给该坐席。",
    "place": "排在第 {place} 位。",
    "held": "目前不派给任何人：正在振铃，或客户正在重新连接，或客户暂时离开而位置被保留。",
    "rings": "正在向 {ringing} 名坐席振铃，先接听者得。",
    "waits_for_last": "正在等待上次为该客户服务的坐席。",
    "about": "有 {able} 名坐席可以接听，前面的会话之后即派出。",
    "nobody": "没有空闲且可接听的坐席。",
    "asked": "要求：{requirement}。",
    "asked_after": "等待 {s} 秒后的要求：{requirement}。",
    "others": "未询问：{parts}。",
    "comma": "，",
    "other.able": "{n} 名也空闲",
    "other.rejected_lately": "{n} 名刚刚拒绝过",
    "other.excluded": "{n} 名被排除",
    "other.lacks_skill": "{n} 名缺少所需技能",
    "other.not_the_last": "{n} 名不是上次为该客户服务的坐席",
    "other.being_offered": "{n} 名正被派给其他会话",
    "other.unreachable": "{n} 名的页面没有连接",
    "other.inactive": "{n} 名已停用",
    "other.ringing": "{n} 名正在振铃",
    "other.on_contact": "{n} 名正在通话",
    "other.wrap_up": "{n} 名正在话后处理",
    "other.break": "{n} 名正在小休",
    "other.missed": "{n} 名未接派单",
}
SENTENCES: dict[str, Mapping[str, str]] = {"en": _EN, "zh-CN": _ZH}
RANKED = frozenset(strategy.value for strategy in Strategy) & _EN.keys() - {Strategy.RING_ALL.value}


@dataclass(frozen=True, slots=True)
class Told:
    """What the sentences need. `agent` None: nobody yet. `counts`: everybody but the chosen one, by verdict or reason.
    `ringing`: for how many (others) it rings; they are not in `counts`."""

    agent: str | None
    strategy: str
    requirement: str
    step: int
    waited_ms: int
    counts: Mapping[str, int] = field(default_factory=dict)
    sticky: bool = False
    ringing: int = 0
    held: bool = False
    place: int | None = None
    handed_over_by: str = ""  # an agent, who made the choice


def words(told: Told, locale: str) -> list[str]:
    """Sentences in a language, or in English where we do not speak it."""
    sentences = SENTENCES.get(locale, _EN)
    if told.handed_over_by:
        return [sentences["transferred"].format(agent=told.agent, by=told.handed_over_by)]
    keys, hidden = _chosen(told) if told.agent is not None else _waiting(told)
    able = told.counts.get("able", 0) + (told.agent is not None)
    known = {"agent": told.agent, "able": able, "ringing": told.ringing, "place": told.place}
    said = [sentences[key].format(**known) for key in keys]
    if told.held:
        return said
    if told.requirement:
        asked = sentences["asked_after" if told.step else "asked"]
        said.append(asked.format(s=told.waited_ms // 1000, requirement=told.requirement))
    if not (told.agent is None and told.sticky):
        said += _others(sentences, {reason: n for reason, n in told.counts.items() if reason not in hidden})
    return said


def _chosen(told: Told) -> tuple[Sequence[str], Sequence[str]]:
    """Which sentences begin, and which of the others need not be told."""
    before = ["rang"] if told.ringing else []
    if told.sticky:
        return ["sticky", *before], ()
    if told.strategy == Strategy.RING_ALL:
        return ["ring_all", *before], ("able",)
    if not told.counts.get("able"):
        return ["alone", *before], ()
    return [told.strategy if told.strategy in RANKED else "some", *before], ()


def _waiting(told: Told) -> tuple[Sequence[str], Sequence[str]]:
    if told.held:
        return ["place", "held"], ()
    if told.ringing:
        return ["place", "rings"], ("able",)
    if told.sticky:
        return ["place", "waits_for_last"], ()
    return ["place", "about" if told.counts.get("able") else "nobody"], ("able",)


def _others(sentences: Mapping[str, str], counts: Mapping[str, int]) -> list[str]:
    """A reason that we do not know (a newer version wrote it) is told as it is."""
    parts = [sentences.get(f"other.{reason}", f"{{n}} {reason}").format(n=n) for reason, n in counts.items() if n > 0]
    return [sentences["others"].format(parts=sentences["comma"].join(parts))] if parts else []
