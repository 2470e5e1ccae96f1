"""SQLite files of this room: made once, opened by whoever needs them, complete after any crash."""

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
    """A file with settings; its kinds have more tables (`schema`) and a mark of their own (`application`)."""

    application: ClassVar[int]
    schema: ClassVar[str]

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise LuhuoError(tr("There is no such file.", "没有这个文件。"), where=self.path)
        self._base = _connect(self.path)
        mark, version = (
            self._base.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if mark != self.application or version > VERSION:
            self._base.close()
            raise _foreign(self.path, f"application_id {mark:#x}, version {version}")

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
        base = _connect(file)
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


def _connect(path: Path) -> sqlite3.Connection:
    base = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=FULL")
        base.execute("PRAGMA foreign_keys=ON")
    except sqlite3.DatabaseError as error:
        base.close()
        raise _foreign(path, error) from None
    return base


def _foreign(path: Path, found: object) -> LuhuoError:
    return LuhuoError(
        tr("This file is of another kind.", "该文件不是所需的类型。"),
        expected=tr("a file that luhuo arena made", "由 luhuo arena 建立的文件"),
        found=found,
        where=path,
    )
