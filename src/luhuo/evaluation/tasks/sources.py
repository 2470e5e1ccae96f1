"""From a folder in a data set's layout (or a reference to one) to rows, with the fields a task gives them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.evaluation.tasks.catalogue import Task
from luhuo.evaluation.tasks.spec import Layout
from luhuo.evaluation.tasks.template import valued
from luhuo.files.readers import DAMAGED
from luhuo.files.records import Broken
from luhuo.files.references import resolve
from luhuo.files.structured import read_rows

Row = dict[str, Any]


def folder_of(task: Task, data: str | None) -> Path | None:
    """Where the task's data lie: the folder or reference given, else what its file names. Raises `LuhuoError`.

    A single file counts as its folder's only one. None for tasks that make their items.
    """
    reference = data or task.spec.data.hub
    if reference is None:
        if task.spec.data.made:
            return None
        raise LuhuoError(
            tr(f"The task {task.name} needs its data.", f"任务 {task.name} 需要数据。"),
            expected=tr("a folder with ", "目录，其中含 ") + _wanted(task),
            fix=f"--data {task.name}=DIR",
        )
    return resolve(reference).path


def read(task: Task, folder: Path | None, split: str, seed: int) -> Iterator[Row]:
    """Rows of a split, in the order of the files. Raises `LuhuoError` where a line cannot be read."""
    rows = task.functions.find("rows")
    if rows is not None:
        yield from rows(folder, split, seed)
        return
    if folder is None:
        raise LuhuoError(tr("The task needs its data.", "任务需要数据。"), where=task.name)
    layout = layout_of(task, folder)
    if split not in layout.files:
        raise LuhuoError(
            tr("This data set has no such split.", "该数据集没有这个划分。"),
            expected=", ".join(layout.files),
            found=split,
            where=task.file,
        )
    files = _files(folder, layout.files[split])
    if not files:
        raise LuhuoError(
            tr(f"The split “{split}” of the data is not there.", f"数据中没有划分“{split}”。"),
            expected=layout.files[split],
            where=folder,
            fix=tr("Ask with shots=0, or add the file.", "请用 shots=0，或补上文件。"),
        )
    for file in files:
        yield from _rows(file, layout)


def layout_of(task: Task, folder: Path) -> Layout:
    """The first layout whose files of the asked split are there. Raises `LuhuoError` that says what was wanted."""
    for layout in task.spec.data.layouts:
        if task.spec.split in layout.files and _files(folder, layout.files[task.spec.split]):
            return layout
    there = sorted(path.name for path in folder.iterdir())[:12] if folder.is_dir() else [folder.name]
    raise LuhuoError(
        tr(f"The data of {task.name} are not in this folder.", f"此目录中没有 {task.name} 的数据。"),
        expected=_wanted(task),
        found=", ".join(there) or tr("nothing", "空"),
        where=folder,
    )


def _wanted(task: Task) -> str:
    patterns = [layout.files[task.spec.split] for layout in task.spec.data.layouts if task.spec.split in layout.files]
    return tr(" or ", " 或 ").join(patterns)


def _files(folder: Path, pattern: str) -> list[Path]:
    """Files below a folder, sorted; a folder that is a file answers for itself."""
    if folder.is_file():
        return [folder]
    return sorted(path for path in folder.glob(pattern) if path.is_file())


def _rows(file: Path, layout: Layout) -> Iterator[Row]:
    names = {"file": file.name.split(".")[0], "folder": file.parent.name}
    try:
        for row in read_rows(file, columns=layout.columns or None):
            if isinstance(row, Broken):
                if row.reason == "empty" and row.line:
                    continue
                raise _unreadable(file, row.line, f"{row.reason}: {row.excerpt}")
            if not isinstance(row.value, dict):
                raise _unreadable(file, row.line, type(row.value).__name__)
            known = names | row.value
            made = {key: valued(source, known, f"{file}:{row.line}") for key, source in layout.fields.items()}
            yield row.value | made
    except DAMAGED as error:
        raise _unreadable(file, 0, error) from None


def _unreadable(file: Path, line: int, found: object) -> LuhuoError:
    return LuhuoError(
        tr("This line of the data cannot be read.", "数据中的这一行无法读取。"),
        expected=tr("an object with the item's fields", "含题目字段的对象"),
        found=found,
        where=f"{file}:{line}" if line else file,
        fix=tr(
            "A benchmark with holes gives no score: fetch the file again.", "残缺的评测集得不出分数：请重新获取文件。"
        ),
    )
