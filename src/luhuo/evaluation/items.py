"""Test items and few-shot examples of the world, read line by line and chosen by seed."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed

Item = dict[str, Any]
KEYS = ("id", "family", "lang", "messages", "answer", "check", "chance")
WORDS = {"en": ("Question: ", "Answer:", " "), "zh": ("问题：", "回答：", "")}
"""The plain-text prompt of each language: before the question, before the answer, between it and the answer."""


def read_items(path: str | Path) -> Iterator[Item]:
    """Yield items. Raises `LuhuoError` at a line that is no item."""
    if not Path(path).is_file():
        raise LuhuoError(tr("There is no file of items here.", "这里没有题目文件。"), expected="*.jsonl", where=path)
    with Path(path).open(encoding="utf-8") as handle:
        for number, line in enumerate(handle, 1):
            try:
                item = json.loads(line)
            except json.JSONDecodeError as error:
                raise _not_an_item(error, path, number) from None
            missing = [key for key in KEYS if not isinstance(item, dict) or key not in item]
            if missing:
                raise _not_an_item(tr("missing: ", "缺少：") + ", ".join(missing), path, number)
            yield item


def _not_an_item(found: object, path: str | Path, number: int) -> LuhuoError:
    return LuhuoError(
        tr("This line is not a test item.", "这一行不是测试题目。"),
        expected=", ".join(KEYS),
        found=found,
        where=f"{path}:{number}",
    )


def choose(items: Iterator[Item], limit: int, seed: int) -> list[Item]:
    """At most `limit` items of each family, the same ones for equal seeds whatever the model; sorted by family and id.

    Raises `LuhuoError` if there are none.
    """
    chosen = _smallest(items, limit, seed, "item", ("family",))
    if not chosen:
        raise LuhuoError(tr("There are no test items.", "没有测试题目。"))
    return [item for key in sorted(chosen) for item in sorted(chosen[key], key=lambda i: str(i["id"]))]


def choose_shots(items: Iterator[Item], count: int, seed: int) -> dict[tuple[str, ...], list[Item]]:
    """`count` examples of each (family, language), fixed by the seed."""
    return _smallest(items, count, seed, "shot", ("family", "lang"))


def _smallest(
    items: Iterator[Item], count: int, seed: int, purpose: str, by: tuple[str, ...]
) -> dict[tuple[str, ...], list[Item]]:
    """Of each group the `count` items whose seeded hash is smallest: one pass, memory for what is kept."""
    heaps: dict[tuple[str, ...], list[tuple[int, int, Item]]] = {}
    for number, item in enumerate(items):
        heap = heaps.setdefault(tuple(item[key] for key in by), [])
        entry = (-derive_seed(seed, purpose, item["id"]), -number, item)
        if len(heap) < count:
            heapq.heappush(heap, entry)
        elif heap and entry > heap[0]:
            heapq.heapreplace(heap, entry)
    return {key: [entry[2] for entry in sorted(heap, reverse=True)] for key, heap in heaps.items()}


def question(item: Item) -> str:
    """What the user says, as plain text."""
    return "\n".join(message["content"] for message in item["messages"])


def plain_prompt(item: Item, shots: list[Item]) -> str:
    """Few-shot text for a base model: examples with their answers, then the question with the answer left open.

    Examples show the bare `answer`, which is what is scored.
    """
    ask, reply, gap = WORDS.get(item["lang"], WORDS["en"])
    blocks = [f"{ask}{question(shot)}\n{reply}{gap}{shot['answer']}" for shot in shots]
    return "\n\n".join([*blocks, f"{ask}{question(item)}\n{reply}"])


def stop_of(shots: list[Item]) -> str:
    """Where a plain answer ends: at the line's end, or at a blank line if an example's answer has several lines."""
    return "\n\n" if any("\n" in shot["answer"].strip() for shot in shots) else "\n"
