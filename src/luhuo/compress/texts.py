"""Texts of all kinds as a model would read them: files, corpora, shards and conversations, one after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.corpus.documents import documents_path, read_documents
from luhuo.corpus.languages import identify
from luhuo.corpus.shards import open_shards
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.layouts import read_conversations
from luhuo.dialogue.render import render
from luhuo.files.readers import list_files, read_file
from luhuo.files.records import Broken, Record
from luhuo.files.streams import format_of
from luhuo.tokenizer.tokenizer import Tokenizer

TABLES = ("json", "jsonl", "ndjson", "csv", "tsv", "parquet")
"""Formats that may hold conversations."""
TOGETHER = 256
"""Texts that are encoded at a time."""

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """A text, or a conversation, whose text is what is said in it."""

    text: str
    lang: str
    conversation: Conversation | None = None


def read_samples(path: str | Path, tokenizer: Tokenizer, limit: int = 0) -> Iterator[Sample]:
    """The texts of a corpus's training split, of shards (decoded), or of files, at most `limit` unless that is 0.

    Raises `LuhuoError` where there is no text.
    """
    found = _known(_of(Path(path), tokenizer))
    number = -1
    for number, one in enumerate(islice(found, limit or None)):  # noqa: B007 (asked for after the loop)
        yield one
    if number < 0:
        raise LuhuoError(tr("There is no text here.", "这里没有文本。"), where=path)


def read_written(path: Path) -> Iterator[Sample]:
    """The texts of a corpus's training split or of files as they are written there; `lang` is empty where it is not
    known. Raises `LuhuoError` where there is no file."""
    if documents_path(path, "train").is_file():
        yield from (Sample(row["text"], row.get("lang") or "") for row in read_documents(path, "train"))
        return
    for file in list_files(path):
        yield from _of_file(file)


def encoded(samples: Iterable[Sample], tokenizer: Tokenizer) -> Iterator[tuple[Sample, list[int]]]:
    """Each sample with its ids; conversations through the chat template."""
    for group in _groups(samples):
        plain = iter(tokenizer.encode_batch([one.text for one in group if one.conversation is None]))
        for one in group:
            yield one, next(plain) if one.conversation is None else render(one.conversation, tokenizer).ids


def _of(root: Path, tokenizer: Tokenizer) -> Iterator[Sample]:
    """Samples whose language may be empty: not known yet."""
    shards = next((place for place in (root / "train", root) if (place / "header.json").is_file()), None)
    return read_written(root) if shards is None else _decoded(shards, tokenizer)


def _decoded(folder: Path, tokenizer: Tokenizer) -> Iterator[Sample]:
    for tokens, ends in open_shards(folder):
        stops = [int(end) for end in ends]
        for start, end in zip([0, *stops], stops, strict=False):
            yield Sample(tokenizer.decode(tokens[start:end].tolist(), skip_special=True), "")


def _of_file(file: Path) -> Iterator[Sample]:
    conversations = _conversations(file) if format_of(file) in TABLES else None
    if conversations is not None:
        for one in conversations:
            yield Sample("\n".join(message.content for message in one.messages), "", one)
        return
    yield from (Sample(record.text, "") for record in read_file(file) if isinstance(record, Record))


def _conversations(file: Path) -> Iterator[Conversation] | None:
    """The conversations of a table; None if its rows are no conversations."""
    try:
        return read_conversations(file, on_broken=_pass_over)[1]
    except LuhuoError:
        return None


def _pass_over(row: Broken) -> None:
    """A row that is no conversation counts for nothing here."""


def _known(samples: Iterator[Sample]) -> Iterator[Sample]:
    """The same samples, each with its language."""
    for group in _groups(samples):
        unknown = [one for one in group if not one.lang]
        guesses = iter(identify([one.text for one in unknown]) if unknown else [])
        for one in group:
            yield one if one.lang else Sample(one.text, next(guesses).lang, one.conversation)


def _groups(values: Iterable[T]) -> Iterator[list[T]]:
    """The values, `TOGETHER` at a time."""
    waiting = iter(values)
    while group := list(islice(waiting, TOGETHER)):
        yield group
