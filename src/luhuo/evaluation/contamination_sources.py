"""Training text and test items for the contamination check, from whatever holds them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.corpus.documents import documents_path, read_documents
from luhuo.corpus.shards import open_shards
from luhuo.evaluation.contamination import TestItem
from luhuo.evaluation.tasks.catalogue import Task
from luhuo.evaluation.tasks.documents import documents
from luhuo.evaluation.tasks.requests import Asked, Asker
from luhuo.evaluation.tasks.sources import folder_of
from luhuo.files.readers import FORMATS, list_files, read_records
from luhuo.files.records import Record
from luhuo.files.streams import format_of
from luhuo.files.structured import Row, read_rows
from luhuo.tokenizer.tokenizer import Tokenizer

TABLES = ("json", "jsonl", "ndjson", "csv", "tsv", "parquet")


def training_documents(path: str | Path, tokenizer: str | Path | None = None) -> Iterator[tuple[str, str]]:
    """(name, text) of each document: of a corpus's training split, of shards (decoded with the tokenizer), or of
    files, a row of a table with all its strings being one. Raises `LuhuoError` where nothing can be read."""
    root = Path(path)
    shards = next((place for place in (root / "train", root) if (place / "header.json").is_file()), None)
    if shards is not None:
        yield from _decoded(shards, tokenizer)
    elif documents_path(root, "train").is_file():
        for document in read_documents(root, "train"):
            yield str(document["id"]), document["text"]
    else:
        files = list_files(root)
        known = [file for file in files if format_of(file) in FORMATS] or files  # a single strange file is an error
        if len(known) < len(files):
            names = ", ".join(sorted({file.name for file in files} - {file.name for file in known})[:5])
            say(tr(f"Passed over, as no text: {names}", f"以下文件不是文本，已跳过：{names}"))
        for file in known:
            yield from _of_file(file)


def _decoded(folder: Path, tokenizer: str | Path | None) -> Iterator[tuple[str, str]]:
    if tokenizer is None:
        raise LuhuoError(
            tr("Shards hold numbers: their tokenizer is needed.", "分片中只有编号：需要其分词器。"),
            fix="--tokenizer DIR",
            where=folder,
        )
    loaded = Tokenizer.load(tokenizer)
    for number, (tokens, ends) in enumerate(open_shards(folder)):
        stops = [int(end) for end in ends]
        for start, end in zip([0, *stops], stops, strict=False):
            yield f"{folder.name}/{number:05d}:{start}", loaded.decode(tokens[start:end].tolist(), skip_special=True)


def _of_file(file: Path) -> Iterator[tuple[str, str]]:
    if format_of(file) in TABLES:
        for row in read_rows(file):
            if isinstance(row, Row):
                yield f"{file.name}:{row.line}", "\n".join(_strings(row.value))
        return
    for record in read_records(file):
        if isinstance(record, Record):
            yield f"{file.name}:{record.line}", record.text


def _strings(value: Any) -> Iterator[str]:
    """All texts of a row, however deep they lie."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += reversed(list(one.values()))
        elif isinstance(one, list):
            waiting += reversed(one)


def items_of(task: Task, data: str | None, limit: int | None = None, seed: int = 0) -> list[TestItem]:
    """The items of a task as text: the question without the words that all questions share, and the right answer.

    Raises `LuhuoError` for a task that has no items of its own (retrieval).
    """
    if task.functions.find("evaluate") is not None:
        raise LuhuoError(
            tr(f"The task {task.name} has no items to look for.", f"任务 {task.name} 没有可查找的题目。"),
            fix=tr("Give the files of its questions as text.", "请以文本形式给出其问题文件。"),
        )
    asker = Asker(task)
    asked = [asker.ask(one) for one in documents(task, folder_of(task, data), limit=limit, seed=seed, shots=0)]
    prompts = without_template([_prompt(one) for one in asked])
    texts = ("\n".join([prompt, *_right(one)]) for prompt, one in zip(prompts, asked, strict=True))
    return [TestItem(one.document.id, text, task.name) for one, text in zip(asked, texts, strict=True)]


def without_template(prompts: list[str]) -> list[str]:
    """Prompts without the words at their beginning and end that all of them share: those are the task's own."""
    split = [re.split(r"(?<=\s)", prompt) for prompt in prompts]
    if len(split) < 2:
        return prompts
    before = _shared(split)
    shortest = min(map(len, split)) - before
    behind = min(_shared([words[::-1] for words in split]), shortest)
    return ["".join(words[before : len(words) - behind]) for words in split]


def _shared(lists: list[list[str]]) -> int:
    """How many words all lists begin with."""
    return sum(1 for _ in takewhile(lambda words: len(set(words)) == 1, zip(*lists, strict=False)))


def _prompt(asked: Asked) -> str:
    prompt = asked.prompts[0] if asked.prompts else "\n".join(asked.turns) or asked.text
    return prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)


def _right(asked: Asked) -> list[str]:
    """The right answers."""
    right = [choice for choice, mark in zip(asked.choices, asked.right, strict=False) if mark]
    return right + ([asked.reference] if asked.reference else [])
