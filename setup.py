"""What pyproject.toml cannot say: the migration scripts, which lie beside `server/`, travel inside the wheel as
server/storage/migrations, where server/storage/migrate.py looks first."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

MIGRATIONS = Path(__file__).parent / "migrations"


class BuildWithMigrations(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # an editable install finds them in the source tree
            target = Path(self.build_lib) / "server" / "storage" / "migrations"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(MIGRATIONS, target, ignore=shutil.ignore_patterns("__pycache__"))


setup(cmdclass={"build_py": BuildWithMigrations})
