"""Which tasks there are: the files of this folder, and files of the user's own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from luhuo.core.config import unknown_key
from luhuo.core.digest import value_digest
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.evaluation.tasks.functions import Functions, load
from luhuo.evaluation.tasks.spec import Group, TaskSpec

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Task:
    """A task with its file and its Python."""

    spec: TaskSpec
    file: Path

    @property
    def name(self) -> str:
        """As in `--tasks`."""
        return self.spec.task

    @cached_property
    def functions(self) -> Functions:
        """Of its Python file, imported when it is first needed."""
        return load(self.spec.python, self.file.parent, str(self.file))

    @cached_property
    def digest(self) -> str:
        """Of everything the task says, its Python included."""
        return value_digest([self.spec.model_dump(mode="json"), self.functions.digest])


def names() -> list[str]:
    """Built-in tasks and groups, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def entries() -> Iterable[TaskSpec | Group]:
    """All built-in tasks and groups, sorted by name."""
    for name in names():
        yield _read(FOLDER / f"{name}.yaml")


def find(name: str) -> Task | Group:
    """A built-in task or group by its name, or a YAML file by its path. Raises `LuhuoError` with the nearest name."""
    file = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not file.is_file():
        if file.parent != FOLDER:
            raise LuhuoError(tr("There is no such task file.", "没有这个任务文件。"), where=name)
        raise unknown_key(name, names(), "luhuo tasks", tr("task", "任务"))
    found = _read(file)
    return found if isinstance(found, Group) else Task(found, file)


def task(name: str) -> Task:
    """A single task. Raises `LuhuoError` for a group."""
    found = find(name)
    if isinstance(found, Group):
        raise LuhuoError(
            tr(f"{name} is a group of tasks.", f"{name} 是一组任务。"), expected=", ".join(found.tasks), where=name
        )
    return found


def expand(wanted: Iterable[str]) -> tuple[list[Task], list[Group]]:
    """The tasks that names, files and groups stand for, each once and in order, and the groups among them."""
    tasks: dict[str, Task] = {}
    groups: dict[str, Group] = {}
    waiting = list(wanted)
    while waiting:
        found = find(waiting.pop(0))
        if isinstance(found, Group):
            if found.group not in groups:
                groups[found.group] = found
                waiting = [*found.tasks, *waiting]
        elif tasks.setdefault(found.name, found).file != found.file:
            raise LuhuoError(tr("Two tasks have one name.", "两个任务同名。"), found=found.name, where=found.file)
    return list(tasks.values()), list(groups.values())


def members(group: Group) -> list[str]:
    """Names of the tasks of a group, those of groups inside it included."""
    return [task.name for task in expand(group.tasks)[0]]


def _read(file: Path) -> TaskSpec | Group:
    values = _values(file, [])
    known = file.stem if file.parent == FOLDER else None
    found = Group.parse(values, str(file)) if "group" in values and "task" not in values else None
    found = found or TaskSpec.parse(values, str(file))
    name = found.group if isinstance(found, Group) else found.task
    if known is not None and name != known:
        raise LuhuoError(
            tr("A task's file is named after it.", "任务文件应以任务名命名。"), expected=known, found=name, where=file
        )
    return found


def _values(file: Path, above: list[Path]) -> dict[str, Any]:
    """The keys of a file over those of the file it includes."""
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise LuhuoError(
            tr("The task file cannot be read.", "无法读取任务文件。"), expected="YAML", found=error, where=file
        ) from None
    if not isinstance(values, dict):
        raise LuhuoError(
            tr("The task file holds no keys.", "任务文件没有键。"),
            expected="task: …",
            found=type(values).__name__,
            where=file,
        )
    base = values.pop("include", None)
    if base is None:
        return values
    other = file.parent / f"{base}.yaml" if not str(base).endswith((".yaml", ".yml")) else file.parent / str(base)
    other = other if other.is_file() else FOLDER / f"{base}.yaml"
    if other in [*above, file] or not other.is_file():
        raise LuhuoError(tr("The included file is not there.", "被包含的文件不存在。"), found=base, where=file)
    return _merged(_values(other, [*above, file]), values)


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` in place of `under`, key by key; nested keys too, save for what is a table of names (`extract`)."""
    result = dict(under)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(under.get(key), dict) and key not in ("extract", "summary")
        result[key] = _merged(under[key], value) if nested else value
    return result
