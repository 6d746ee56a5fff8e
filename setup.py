"""What pyproject.toml cannot say: the migration scripts, which lie beside `server/`, travel inside the wheel as
server/storage/migrations, where server/storage/migrate.py looks first; and the compiled part of the media relay
(server/media/relay/ways.c), which may be missing where there is no compiler."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

MIGRATIONS = Path(__file__).parent / "migrations"


class BuildWithMigrations(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # an editable install finds them in the source tree
            target = Path(self.build_lib) / "server" / "storage" / "migrations"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(MIGRATIONS, target, ignore=shutil.ignore_patterns("__pycache__"))


WAYS = Extension(
    "server.media.relay._ways", ["server/media/relay/ways.c"], extra_compile_args=["-O2", "-std=gnu11"], optional=True
)

setup(cmdclass={"build_py": BuildWithMigrations}, ext_modules=[WAYS] if sys.platform == "linux" else [])
