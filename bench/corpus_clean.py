"""How much good text do the rules throw away? The kept share of real, clean text per source, and the reasons.

    LUHUO_TEST_DATA=DIR python bench/corpus_clean.py [--show N] [--signal NAME] [--published]

`--show N` prints the beginnings of N dropped texts a source; `--signal NAME` prints the distribution of one signal;
`--published` prints what the limits of the papers would drop: each language's own and, for Chinese, Gopher's with
characters as words.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from luhuo.corpus import rules, signals
from luhuo.corpus.normalise import normalise

PIECE = 5000
"""Characters of a piece of a book, a play or a file of many stories."""
POEMS = 12_000


PUBLISHED = {
    "en": {
        "Gopher": {
            "gopher.words": (50, 100_000), "gopher.mean_word_length": (3, 10), "gopher.hash_words": (None, 0.1),
            "gopher.ellipsis_words": (None, 0.1), "gopher.bullet_lines": (None, 0.9),
            "gopher.ellipsis_lines": (None, 0.3), "gopher.alpha_words": (0.8, None), "gopher.stop_words": (2, None),
        },
        "Gopher repetition": {
            "repetition.duplicate_lines": (None, 0.3), "repetition.duplicate_paragraphs": (None, 0.3),
            "repetition.duplicate_line_chars": (None, 0.2), "repetition.duplicate_paragraph_chars": (None, 0.2),
            "repetition.top_2gram": (None, 0.2), "repetition.top_3gram": (None, 0.18),
            "repetition.top_4gram": (None, 0.16), "repetition.duplicate_5gram": (None, 0.15),
            "repetition.duplicate_6gram": (None, 0.14), "repetition.duplicate_7gram": (None, 0.13),
            "repetition.duplicate_8gram": (None, 0.12), "repetition.duplicate_9gram": (None, 0.11),
            "repetition.duplicate_10gram": (None, 0.1),
        },
        "C4": {"c4.sentences": (3, None), "c4.curly_brackets": (None, 0), "c4.lorem_ipsum": (None, 0)},
        "FineWeb": {
            "fineweb.punctuated_lines": (0.12, None), "fineweb.short_lines": (None, 0.67),
            "repetition.duplicate_line_chars": (None, 0.1),
        },
    },
    "zh": {
        "EvalWeb": {
            "chinese.mean_line": (10, None), "shape.characters": (200, None), "chinese.han": (0.3, None),
            "chinese.traditional": (None, 0.5), "repetition.duplicate_13gram": (None, 0.5),
        },
    },
}  # fmt: skip
PUBLISHED["zh"]["Gopher repetition"] = PUBLISHED["en"]["Gopher repetition"]
"""Limits of the papers: Rae et al. 2021, Raffel et al. 2020, Penedo et al. 2024, Chen et al. 2023."""


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a gzipped file of JSON lines."""
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        yield from map(json.loads, handle)


def text_of(path: Path) -> str:
    """A gzipped text."""
    return gzip.decompress(path.read_bytes()).decode("utf-8")


def pieces(path: Path, border: str) -> list[str]:
    """A gzipped text divided at `border` into pieces of about `PIECE` characters."""
    held, found = "", []
    for part in text_of(path).split(border):
        held += part + border
        if len(held) >= PIECE:
            found.append(held)
            held = ""
    return [*found, held]


def poem(row: dict[str, Any]) -> str:
    """Title, author and verses; some collections have one text for the verses, or chapters of more of them."""
    return "\n".join([row["title"] or "", row["author"] or "", *strings(row["paragraphs"])])


def strings(value: Any) -> Iterator[str]:
    """All strings in a value, in order."""
    if isinstance(value, str):
        yield value
    else:
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def grouped(sentences: list[str]) -> list[str]:
    """Neighbouring sentences, ten to a text."""
    return ["\n".join(sentences[i : i + 10]) for i in range(0, len(sentences), 10)]


def sources(data: Path) -> dict[str, tuple[str, list[str]]]:
    """name -> (language, texts). Files that hold no text of their own (front matter, redirects) are left out."""
    poems = list(rows(data / "chinese_poetry/poems.jsonl.gz"))
    verse = [poem(row) for row in poems[:: len(poems) // POEMS]]
    stories = text_of(data / "tinystories_sample/tinystories_sample.txt.gz").split("<|endoftext|>")
    dialogues = [
        row["dialogue"] for part in ("dev", "test") for row in rows(data / f"summarisation/dialogsum_{part}.jsonl.gz")
    ]
    abstracts = [
        row["abstract"] for p in ("dev", "test") for row in rows(data / f"summarisation/csl_title_{p}.jsonl.gz")
    ]
    news = list(rows(data / "translation_zh_en/wmt23_en2zh.jsonl.gz"))
    found = {
        "zh_laws": ("zh", [row["text"] for row in rows(data / "zh_laws/laws.jsonl.gz")]),
        "zh_docs": ("zh", [row["text"] for row in rows(data / "zh_docs/docs.jsonl.gz")]),
        "zh_classics": ("zh", [p for file in sorted((data / "zh_classics").glob("*.gz")) for p in pieces(file, "\n")]),
        "zh_wiki_cmrc": ("zh", [row["text"] for row in rows(data / "zh_wiki_qa/cmrc_corpus.jsonl.gz")]),
        "zh_wiki_drcd": ("zh", [row["text"] for row in rows(data / "zh_wiki_qa/drcd_corpus.jsonl.gz")]),
        "chinese_poetry": ("zh", verse),
        "zh_abstracts": ("zh", abstracts),
        "zh_news": ("zh", grouped([row["ref"] for row in news])),
        "en_news": ("en", grouped([row["src"] for row in news])),
        "wikitext2": ("en", ["\n".join(row["rows"]) for row in rows(data / "wikitext2/test_articles.jsonl.gz")]),
        "tinystories": ("en", stories),
        "cranfield": ("en", [row["text"] for row in rows(data / "cranfield/corpus.jsonl.gz")]),
        "tinyshakespeare": ("en", pieces(data / "tinyshakespeare/input.txt.gz", "\n\n")),
        "en_dialogues": ("en", dialogues),
    }  # fmt: skip
    clean = {name: (lang, [normalise(text) for text in texts]) for name, (lang, texts) in found.items()}
    return {name: (lang, [text for text in texts if text]) for name, (lang, texts) in clean.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--signal", action="append", default=[])
    parser.add_argument("--source")
    parser.add_argument("--published", action="store_true")
    options = parser.parse_args()
    print(f"{'source':16} {'lang':4} {'texts':>6} {'kept':>7} {'of characters':>13}  reasons")
    for name, (lang, texts) in sources(Path(os.environ["LUHUO_TEST_DATA"])).items():
        if options.source in (None, name):
            _source(name, lang, texts, options)


def _source(name: str, lang: str, texts: list[str], options: argparse.Namespace) -> None:
    measured = signals.measure(texts, lang)
    table = rules.load(lang)
    reasons = [rules.broken(table, row) for row in measured]
    kept = sum(not why for why in reasons) / len(texts)
    chars = sum(len(text) for text, why in zip(texts, reasons, strict=True) if not why) / sum(map(len, texts))
    counts = Counter(reason for why in reasons for reason in why)
    print(f"{name:16} {lang:4} {len(texts):6} {kept:7.2%} {chars:13.2%}  {dict(counts.most_common())}")
    for signal in options.signal:
        values = np.array([row[signal] for row in measured if signal in row])
        if len(values):
            shown = np.quantile(values, [0, 0.005, 0.02, 0.05, 0.25, 0.5, 0.75, 0.95, 0.98, 0.995, 1])
            print(f"    {signal}: " + " ".join(f"{v:.3g}" for v in shown))
    if options.published:
        for paper, limits in PUBLISHED[lang].items():
            table = {signal: rules.Rule(signal, low, high, signal, "") for signal, (low, high) in limits.items()}
            counts = Counter(name for row in measured for name in rules.broken(table, row))
            lost = sum(bool(rules.broken(table, row)) for row in measured) / len(texts)
            shares = ", ".join(f"{name} {count / len(texts):.1%}" for name, count in counts.most_common())
            print(f"    {paper} drops {lost:.1%}: {shares}")
    dropped = [(why, text) for why, text in zip(reasons, texts, strict=True) if why]
    for why, text in dropped[:: max(1, len(dropped) // options.show)][: options.show] if options.show else []:
        print(f"    {why} {len(text)}: {text[:160]!r}")


if __name__ == "__main__":
    main()
