"""The Python of a task: functions that take the place of keys of its YAML file."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

NAMES = ("rows", "prepare", "prompt", "choices", "answer", "reference", "score", "corpus", "run", "evaluate")
"""The functions a task's Python file may have."""


class Functions:
    """What a task's Python file has: `find("score")` is that function, or None."""

    def __init__(self, module: ModuleType | None = None) -> None:
        self._found: dict[str, Callable[..., Any]] = {}
        self.digest = ""
        """Of the file's text: scores are cached by it."""
        if module is not None:
            self._found = {name: getattr(module, name) for name in NAMES if callable(getattr(module, name, None))}
            self.digest = hashlib.sha256(inspect.getsource(module).encode()).hexdigest()

    def find(self, name: str) -> Callable[..., Any] | None:
        """The function of this name, if it is there."""
        return self._found.get(name)


def load(reference: str | None, folder: Path, where: str) -> Functions:
    """The functions of a module (`package.module`) or of a file beside the task file (`mine.py`).

    Raises `LuhuoError` if it cannot be imported, or has none of the functions.
    """
    if reference is None:
        return Functions()
    try:
        module = _file(folder / reference) if reference.endswith(".py") else importlib.import_module(reference)
    except (ImportError, OSError, SyntaxError) as error:
        raise LuhuoError(
            tr("The Python of this task cannot be imported.", "无法导入该任务的 Python 文件。"),
            expected=tr("a module, or a file beside the task file", "模块名，或任务文件同目录下的文件"),
            found=f"{reference}: {error}",
            where=where,
        ) from None
    functions = Functions(module)
    if not any(functions.find(name) for name in NAMES):
        raise LuhuoError(
            tr("The Python of this task has none of the functions.", "该任务的 Python 文件没有所需的函数。"),
            expected=", ".join(NAMES),
            found=reference,
            where=where,
        )
    return functions


def _file(path: Path) -> ModuleType:
    name = f"luhuo_task_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module
