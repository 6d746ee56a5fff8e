"""What Vite built: the manifest, the hashed files, and the widget's loader."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from server.services.refusals import Refused, not_found

BASE = "/static/"
IMMUTABLE = "public, max-age=31536000, immutable"  # the name holds a hash of the content
LOADER_CACHE = "public, max-age=300"  # sites embed this name for years: a new loader must arrive within minutes
REVALIDATE = "no-cache"


class NotBuilt(Exception):
    """The web apps are not there."""


@dataclass(frozen=True, slots=True)
class EntryAssets:
    """URLs that a shell names: one module, its style sheets, and what the module imports."""

    script: str
    styles: tuple[str, ...]
    preloads: tuple[str, ...]


class Assets:
    """The build in `static_dir`. The manifest is read again when it changes, so a rebuild needs no restart."""

    def __init__(self, static_dir: Path) -> None:
        self._root = static_dir.resolve()
        self._manifest_file = static_dir / ".vite" / "manifest.json"
        self._read_at: int | None = None
        self._manifest: dict[str, Any] = {}

    def entry(self, name: str) -> EntryAssets:
        """The assets of an entry such as `agent/main.ts`. Raises NotBuilt."""
        manifest = self._load()
        if name not in manifest:
            raise NotBuilt(f"{name} is not in the web build")
        styles: dict[str, None] = {}
        preloads: dict[str, None] = {}
        waiting, seen = [name], set()
        while waiting:
            chunk_name = waiting.pop(0)
            if chunk_name in seen:
                continue
            seen.add(chunk_name)
            chunk = manifest[chunk_name]
            styles.update(dict.fromkeys(BASE + file for file in chunk.get("css", ())))
            if chunk_name != name:
                preloads[BASE + chunk["file"]] = None
            waiting.extend(chunk.get("imports", ()))
        return EntryAssets(BASE + manifest[name]["file"], tuple(styles), tuple(preloads))

    def file(self, path: str) -> Path:
        """A built file by its path below /static/. Raises Refused: not_found, for hidden files too."""
        if "\x00" in path or any(part.startswith(".") or part == "" for part in path.split("/")):
            raise not_found("file")
        found = (self._root / path).resolve()
        if not found.is_relative_to(self._root) or not found.is_file():
            raise not_found("file")
        return found

    def _load(self) -> dict[str, Any]:
        try:
            changed_at = self._manifest_file.stat().st_mtime_ns
            if changed_at != self._read_at:
                self._manifest = json.loads(self._manifest_file.read_bytes())
                self._read_at = changed_at
        except (OSError, ValueError):
            raise NotBuilt("there is no web build") from None
        return self._manifest


async def serve_file(assets: Assets, request: web.Request) -> web.StreamResponse:
    """GET /static/…"""
    path = request.match_info["path"]
    cache = IMMUTABLE if path.startswith("assets/") else REVALIDATE
    return web.FileResponse(assets.file(path), headers={"Cache-Control": cache})


async def serve_loader(assets: Assets) -> web.StreamResponse:
    """GET /widget.js: any site may load it, so it says so to every isolation mechanism."""
    headers = {
        "Access-Control-Allow-Origin": "*",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Content-Type": "text/javascript; charset=utf-8",
    }
    try:
        path = assets.file("widget.js")
    except Refused:
        text = 'console.error("Patchbay: the widget is not built; `make run` on the server builds it.");\n'
        return web.Response(text=text, status=503, headers=headers)
    return web.FileResponse(path, headers=headers | {"Cache-Control": LOADER_CACHE})
