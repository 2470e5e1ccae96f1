"""SQLite files that people write into through a page: complete after any crash, open to several at once.

Write-ahead logging lets several people write while somebody exports; who writes is recorded whole or not at all.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

VERSION = 1


class Base:
    """A file with settings; every thread opens its own. Each kind has a name, tables and a mark of its own
    (`PRAGMA application_id`)."""

    application: ClassVar[int]
    schema: ClassVar[str]
    kind: ClassVar[tuple[str, str]]
    """English, Chinese."""
    made_by: ClassVar[str]
    """The command that makes such a file."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            english, chinese = self.kind
            raise LuhuoError(
                tr(f"There is no {english} here.", f"这里没有{chinese}。"), where=self.path, fix=self.made_by
            )
        self._base = self._connect(self.path)
        mark, version = (
            self._base.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if mark == self.application and version <= VERSION:
            return
        self._base.close()
        if mark != self.application:
            raise self._foreign(self.path, f"application_id {mark:#x}")
        raise LuhuoError(
            tr("This file is from a newer version of Luhuo.", "该文件来自更新版本的炉火。"),
            expected=f"version <= {VERSION}",
            found=version,
            where=self.path,
            fix="pip install --upgrade luhuo",
        )

    @classmethod
    def create(cls, path: str | Path, settings: Mapping[str, Any]) -> Self:
        """A new file. Raises `LuhuoError` if there is one of this name."""
        file = Path(path)
        if file.exists():
            raise LuhuoError(
                tr("There is a file of this name already.", "已有同名文件。"),
                where=file,
                fix=tr("Choose another name, or remove it.", "换一个名字，或先删除它。"),
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        base = cls._connect(file)
        mark = f"PRAGMA application_id={cls.application}; PRAGMA user_version={VERSION};"
        base.executescript(f"{mark}CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);{cls.schema}")
        rows = [(name, json.dumps(value, ensure_ascii=False)) for name, value in settings.items()]
        base.executemany("INSERT INTO setting VALUES (?, ?)", rows)
        base.close()
        return cls(file)

    def close(self) -> None:
        """Close the file; the log is written back into it."""
        self._base.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def setting(self, name: str, default: Any = None) -> Any:
        """A value given when the file was made."""
        found = self._base.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
        return default if found is None else json.loads(found[0])

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the file from its beginning, so that two who write wait for each other."""
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield self._base
        except BaseException:
            self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")

    @classmethod
    def _connect(cls, path: Path) -> sqlite3.Connection:
        base = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            base.execute("PRAGMA journal_mode=WAL")
            base.execute("PRAGMA synchronous=FULL")
            base.execute("PRAGMA foreign_keys=ON")
        except sqlite3.DatabaseError as error:
            base.close()
            raise cls._foreign(path, error) from None
        return base

    @classmethod
    def _foreign(cls, path: Path, found: object) -> LuhuoError:
        english, chinese = cls.kind
        return LuhuoError(
            tr(f"This file is no {english}.", f"该文件不是{chinese}。"), expected=cls.made_by, found=found, where=path
        )
