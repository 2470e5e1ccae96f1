"""A reward from a function in a file of the user's."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from luhuo.align.rewards.config import FunctionReward
from luhuo.align.rewards.score import CompletionInfo, Failure, Item, Mark, Scorer, each
from luhuo.core.config import nearest
from luhuo.core.digest import file_digest
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr


def function(config: FunctionReward) -> Scorer:
    """The function of a file as a scorer: `reward(item, text, info) -> float | None`.

    None says that the reward does not apply to this prompt. What is raised, and what is no finite number, is a
    failure. Raises `LuhuoError` where the file or the function is not there.
    """
    from luhuo.files.references import resolve

    call = load(resolve(config.file).path, config.function)

    def score(item: Item, text: str, info: CompletionInfo) -> Mark | Failure:
        return Mark(as_value(call(item, text, info)))

    return each(score)


def as_value(value: Any) -> float | None:
    """A reward's value as a float (also of a bool, a numpy or torch scalar); None stays None. Raises TypeError."""
    if value is None:
        return None
    if isinstance(value, (str, bytes)):
        raise TypeError(tr(f"a number or None was expected, found {value!r}", f"应为数或 None，实为 {value!r}"))
    return float(value)


def load(path: Path, name: str) -> Callable[..., Any]:
    """The function `name` of a Python file, which is run for it. Raises `LuhuoError` with what is wrong."""
    if path.suffix != ".py" or not path.is_file():
        raise LuhuoError(tr("There is no Python file here.", "这里没有 Python 文件。"), expected="*.py", where=path)
    spec = importlib.util.spec_from_file_location(f"luhuo_reward_{file_digest(path)[:12]}", path)
    assert spec is not None and spec.loader is not None  # a file named *.py always has both
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise LuhuoError(
            tr("The file of the reward function cannot be run.", "奖励函数所在的文件无法运行。"),
            found=f"{type(error).__name__}: {error}",
            where=path,
        ) from error
    found = getattr(module, name, None)
    if not callable(found):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        close = nearest(name, names)
        raise LuhuoError(
            tr(f"The file has no function “{name}”.", f"文件中没有函数“{name}”。"),
            found=", ".join(names) or None,
            where=path,
            fix=tr(f"Did you mean “{close}”?", f"是不是“{close}”？") if close else None,
        )
    return found
