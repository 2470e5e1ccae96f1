"""A corpus of any size with planted near duplicates, from the real texts of LUHUO_TEST_DATA, by a seed.

Documents are sentences of one language drawn at random, so that no two are alike by more than a sentence, while real
sentences make up all of them. Of the documents 15% have a copy: 3% exactly, the rest with 1 to 5% of their characters
(English: characters or words) deleted, replaced, inserted or swapped.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SENTENCE = {"en": re.compile(r"[^.!?\n]{20,400}[.!?]"), "zh": re.compile(r"[^。！？\n]{8,200}[。！？]")}
FILES = {
    "en": ("tinystories_sample/*.gz", "wikitext2/test_articles*", "tinyshakespeare/*"),
    "zh": ("zh_laws/*.gz", "zh_wiki_qa/*corpus*", "zh_docs/*.gz", "zh_classics/*.gz"),
}
COPIED, EXACT = 0.15, 0.03
KINDS = ("delete", "replace", "insert", "swap")


def sentences(data: Path, lang: str) -> list[str]:
    """All sentences of a language."""
    found: list[str] = []
    for pattern in FILES[lang]:
        for file in sorted(data.glob(pattern)):
            packed = file.read_bytes()
            text = (gzip.decompress(packed) if file.suffix == ".gz" else packed).decode("utf-8")
            if ".jsonl" in file.name:
                rows = (json.loads(line) for line in text.splitlines())
                text = "\n".join(str(row.get("text") or "\n".join(row.get("rows", ()))) for row in rows)
            found.extend(sentence.strip() for sentence in SENTENCE[lang].findall(text))
    return sorted(set(found))


def edited(text: str, share: float, rng: random.Random, words: bool) -> str:
    """The text with a share of its characters or words edited."""
    parts = text.split(" ") if words else list(text)
    pool = list(parts)
    for _ in range(max(1, round(len(parts) * share))):
        kind, place = rng.choice(KINDS), rng.randrange(len(parts) - 1)
        if kind == "delete":
            del parts[place]
        elif kind == "replace":
            parts[place] = rng.choice(pool)
        elif kind == "insert":
            parts.insert(place, rng.choice(pool))
        else:
            parts[place], parts[place + 1] = parts[place + 1], parts[place]
    return (" " if words else "").join(parts)


def documents(data: Path, lang: str, megabytes: float, rng: random.Random) -> Iterator[dict[str, Any]]:
    """{"text", "lang", "group"} up to a size; documents of one group are copies of each other."""
    pool, size, group = sentences(data, lang), 0, 0
    while size < megabytes * 1e6:
        count = min(200, max(4, round(rng.lognormvariate(2.7, 0.8))))
        text = (" " if lang == "en" else "").join(rng.choices(pool, k=count))
        texts = [text]
        if rng.random() < COPIED:
            same = rng.random() < EXACT / COPIED
            share, words = rng.uniform(0.01, 0.05), lang == "en" and rng.random() < 0.5
            texts.append(text if same else edited(text, share, rng, words))
        for one in texts:
            yield {"text": one, "lang": lang, "group": f"{lang}-{group}"}
            size += len(one.encode())
        group += 1


def make(folder: Path, megabytes: float, seed: int = 0) -> None:
    """Write `en.jsonl`, `zh.jsonl` ({"id", "text", "lang"}) and `groups.json` ({id: group})."""
    data = Path(os.environ["LUHUO_TEST_DATA"])
    groups: dict[str, str] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for lang in ("en", "zh"):
        rows = list(documents(data, lang, megabytes / 2, random.Random(f"{seed} {lang}")))
        random.Random(f"{seed} order {lang}").shuffle(rows)
        with (folder / f"{lang}.jsonl").open("w", encoding="utf-8") as handle:
            for number, row in enumerate(rows):
                name = f"{lang}-{number}"
                groups[name] = row["group"]
                one = {"id": name, "text": row["text"], "lang": lang}
                handle.write(json.dumps(one, ensure_ascii=False) + "\n")
    (folder / "groups.json").write_text(json.dumps(groups), encoding="utf-8")
