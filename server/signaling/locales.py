"""Which of our languages somebody reads: what they chose, else what their browser asks for."""

from __future__ import annotations

from aiohttp import web

LOCALES = ("en", "zh-CN")


def choose_locale(chosen: str | None, request: web.Request) -> str:
    if chosen is not None:
        return chosen
    wanted: list[tuple[float, str]] = []
    for part in request.headers.get("Accept-Language", "")[:500].split(","):
        tag, _, weight = part.strip().partition(";q=")
        try:
            wanted.append((float(weight or 1), tag.lower()))
        except ValueError:
            continue
    for _weight, tag in sorted(wanted, key=lambda pair: -pair[0]):
        for locale in LOCALES:
            if tag.split("-")[0] == locale.split("-")[0]:
                return locale
    return LOCALES[0]
