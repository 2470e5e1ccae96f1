"""Held-out text as passages: short enough for one pass, of every language alike, the same for any tokenizer.

A text is cut at line ends into passages, and each passage stands for itself: every token of it is scored, the first
one given only what the model expects in front of a text. So the text that is scored does not depend on how a model
divides it into tokens, and models with different vocabularies can be compared. Which passages are taken depends on
the hash of their text alone.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.corpus.shards import open_shards
from luhuo.files.readers import read_records
from luhuo.files.records import Record
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.verify.script import language_of

CHARACTERS_A_TOKEN = 4
"""Sections are so many characters a token of a passage: a little more than one passage of English."""
LOOKED_AT = 400_000_000
"""Characters of a source that are looked at: the rest of a very large one adds nothing to a sample."""
SPARE = 8
"""Times as much text is kept as is wanted, since nobody knows beforehand how many tokens it makes."""
LEAST = 512
"""Tokens below which nothing can be said."""
SCARCE = 0.05
"""Of the tokens: a language with less is left out beside others."""
ENDS = ("\n", "。", ". ", "，", " ")
"""Where a text is cut, the best place first."""
UNKNOWN = "other"


@dataclass(frozen=True)
class Passage:
    """A text that is scored on its own."""

    text: str
    lang: str
    document: str
    """What it was cut from: passages of one document are no independent observations."""


def select(path: str | Path, tokenizer: Tokenizer, *, tokens: int, length: int, seed: int = 0) -> list[Passage]:
    """Passages of at most `length` tokens, about `tokens` in all, shared out equally among the languages of `path`: a
    text, a folder, a glob, or a corpus or shards artifact, of which the test split is read.

    Languages are those that records name as `lang`, otherwise told by script. Raises `LuhuoError` if there is less
    text than `LEAST` tokens, or nothing to read.
    """
    sections = _sections(
        _documents(Path(path), tokenizer), CHARACTERS_A_TOKEN * length, SPARE * CHARACTERS_A_TOKEN * tokens, seed
    )
    found: dict[str, list[Passage]] = {}
    counts: dict[str, int] = {}
    for lang in sorted(sections):
        share = tokens // len(sections)
        found[lang], counts[lang] = [], 0
        for section in sections[lang]:
            for piece, count in _pieces(section.text, tokenizer, length):
                if counts[lang] < share:
                    found[lang].append(Passage(piece, lang, section.document))
                    counts[lang] += count
    total = sum(counts.values())
    if total < LEAST:
        raise LuhuoError(
            tr("The text is too short to measure anything on.", "文本太短，无法用来测量。"),
            expected=tr(f"at least {LEAST} tokens", f"至少 {LEAST} 个词元"),
            found=tr(f"{total} tokens", f"{total} 个词元"),
            where=path,
            fix=tr("Give more text: some ten thousand characters.", "请提供更多文本：上万字为宜。"),
        )
    return [passage for lang in sorted(found) if counts[lang] >= SCARCE * total for passage in found[lang]]


def _documents(path: Path, tokenizer: Tokenizer) -> Iterator[tuple[str, str, str]]:
    """(name, language or "", text) of the test split of a corpus or of shards, otherwise of all there is."""
    if (path / "test" / "header.json").is_file():
        for part, (tokens, ends) in enumerate(open_shards(path / "test")):
            stops = [int(end) for end in ends]
            for number, (start, end) in enumerate(zip([0, *stops], stops, strict=False)):
                yield f"{part}:{number}", "", tokenizer.decode(tokens[start:end].tolist(), skip_special=True)
        return
    splits = sorted((path / "documents").glob("test.*"))
    for record in read_records(splits[0] if splits else path):
        if isinstance(record, Record):
            lang = record.fields.get("lang")
            name = record.fields.get("id") or f"{record.file}:{record.line}"
            yield str(name), lang if isinstance(lang, str) else "", record.text


@dataclass(frozen=True)
class Section:
    """A stretch of a document, with the hash it is chosen by."""

    key: int
    text: str
    document: str

    def __lt__(self, other: Section) -> bool:
        return self.key > other.key  # a heap of these gives up the largest hash first


def _sections(
    documents: Iterator[tuple[str, str, str]], size: int, characters: int, seed: int
) -> dict[str, list[Section]]:
    """By language the sections with the smallest hashes, together `characters` long at most, in the order of these."""
    kept: dict[str, list[Section]] = defaultdict(list)
    held: dict[str, int] = defaultdict(int)
    looked = 0
    for name, named, whole in documents:
        lang = named or language_of(whole[:4000]) or UNKNOWN
        for text in cut(whole, size):
            digest = hashlib.sha256(f"{seed}/{text}".encode("utf-8", "surrogatepass")).digest()
            heapq.heappush(kept[lang], Section(int.from_bytes(digest[:8], "little"), text, name))
            held[lang] += len(text)
            while held[lang] - len(kept[lang][0].text) >= characters:
                held[lang] -= len(heapq.heappop(kept[lang]).text)
        looked += len(whole)
        if looked > LOOKED_AT:
            break
    return {lang: sorted(sections, reverse=True) for lang, sections in kept.items()}


def cut(text: str, size: int) -> Iterator[str]:
    """Consecutive pieces of at most `size` characters, cut at the best place in the last third of each."""
    start = 0
    while start < len(text):
        end = min(start + size, len(text))
        if end < len(text):
            places = ((text.rfind(mark, start + 2 * size // 3, end), mark) for mark in ENDS)
            end = next((place + len(mark) for place, mark in places if place >= 0), end)
        if text[start:end].strip():
            yield text[start:end]
        start = end


def _pieces(text: str, tokenizer: Tokenizer, length: int) -> Iterator[tuple[str, int]]:
    """Passages of a section with the number of their tokens, at most `length` each."""
    while text.strip():
        count = len(tokenizer.encode(text))
        if count <= length:
            yield text, count
            return
        size = max(1, int(len(text) * 0.9 * length / count))
        first = next(cut(text, size), text[:size])
        while len(tokenizer.encode(first)) > length and len(first) > 1:
            first = first[: max(1, len(first) * 3 // 4)]
        yield first, len(tokenizer.encode(first))
        text = text[len(first) :] if text.startswith(first) else text.lstrip()[len(first) :]
