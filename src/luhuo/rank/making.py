"""What `luhuo rank new` and `luhuo rank export` do."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from luhuo.core.atomic import atomic_path
from luhuo.core.config import unknown_key
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.rank.exporting import LAYOUTS, export
from luhuo.rank.importing import read_answers, read_prompts
from luhuo.rank.store import NewItem, Store


def make_project(
    path: Path,
    *,
    answers: Path | None,
    prompts: Path | None,
    models: Sequence[str],
    limit: int,
    settings: Mapping[str, Any],
    sampling: Mapping[str, Any],
) -> None:
    """Make the project file `path`. Raises `LuhuoError` unless there are answers, or prompts and models, and at least
    one item with two different answers. A project that could not be made leaves no file."""
    if (answers is None) == (prompts is None) or (prompts is None) != (not models):
        raise LuhuoError(
            tr("Give answers, or prompts and the models that answer them.", "请给出回答，或提示与作答的模型。"),
            expected="--answers FILE | --prompts FILE --models MODEL…",
        )
    source = answers or prompts
    assert source is not None
    if not source.is_file():
        raise LuhuoError(tr("There is no such file.", "没有这个文件。"), where=source)
    if path.exists():
        Store.create(path, settings)  # says what is wrong before models are asked
    counts = Counter[str]()
    items: list[NewItem]
    if answers is not None:
        items = list(read_answers(answers, counts))
    else:
        from luhuo.rank.generating import answered

        asked = list(read_prompts(source, counts))
        items = list(answered(asked[: limit or None], models, counts, **sampling))
    items = items[: limit or None]
    told = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    if not items:
        raise LuhuoError(
            tr("There is nothing to rank.", "没有可排序的内容。"),
            expected=tr("a prompt with two different answers", "有两个不同回答的提示"),
            found=told,
            where=source,
        )
    with Store.create(path, settings) as store:
        store.add(items)
    say(tr(f"{len(items)} items in {path} ({told})", f"{path}：共 {len(items)} 题（{told}）"))
    say(tr(f"Next: luhuo rank serve {path}", f"接着：luhuo rank serve {path}"))


def export_project(path: Path, out: Path, layout: str, agree: float) -> None:
    """Write the rows of a layout; says how many. Raises `LuhuoError` for an unknown layout, or if there is no row."""
    if layout not in LAYOUTS:
        raise unknown_key(layout, list(LAYOUTS), str(path), tr("layout", "格式"))
    count = 0
    with Store(path) as store, atomic_path(out) as temporary:
        with temporary.open("w", encoding="utf-8") as handle:
            for row in export(store, layout, least=agree):
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        if count == 0:
            raise LuhuoError(
                tr("Nothing was judged that this layout can hold.", "没有可写成此格式的评判。"),
                where=path,
                fix=f"luhuo rank status {path}",
            )
    say(tr(f"{count} rows in {out}", f"{out}：共 {count} 行"))
