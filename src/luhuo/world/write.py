"""Writing a world to disk, file by file."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luhuo.core.atomic import atomic_path, write_json
from luhuo.core.language import tr
from luhuo.core.progress import Progress
from luhuo.core.seeds import derive_seed
from luhuo.world import dialogue, dirty, facts, page_kinds, pages, preference, report
from luhuo.world.copybook import copybook
from luhuo.world.items import Maker

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace
    from luhuo.world.stages import WorldStage

HELD_OUT_SHARE = 0.06
"""Size of the valid and the test pages, as a share of the train pages."""


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write rows one a line; return how many."""
    count = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def make_pages(seed: int, world: facts.World, size: float, name: str) -> Iterator[pages.Page]:
    """Pages of a world until `size` bytes are reached; languages in turn by bytes, so that both get half."""
    rng = random.Random(derive_seed(seed, "pages", name))
    written = {"en": 0, "zh": 0}
    seen: set[int] = set()
    while sum(written.values()) < size:
        lang = min(written, key=lambda key: written[key])
        page = page_kinds.page(Maker(world, lang, world.split, rng))
        mark = derive_seed(0, page.text)
        if mark in seen:
            continue
        seen.add(mark)
        bytes_ = len(page.text.encode())
        if page.lang == "mixed":
            written["en"] += bytes_ // 2
            written["zh"] += bytes_ - bytes_ // 2
        else:
            written[lang] += bytes_
        yield page


def write_world(stage: WorldStage, out: Workspace) -> None:
    """Write pages, dialogue, preference, prompts, thoughts, dirty and report.json."""
    worlds = {split: facts.build(stage.seed, split) for split in ("train", "valid", "test")}
    numbers: dict[str, Any] = {"pages": {}, "dialogue": {}}
    sample: list[tuple[str, str]] = []
    for split, world in worlds.items():
        size = stage.megabytes * 1e6 * (1 if split == "train" else HELD_OUT_SHARE)
        numbers["pages"][split] = _write_pages(stage, out.path, world, size, sample)
        size = stage.copybook_megabytes * 1e6 * (1 if split == "train" else HELD_OUT_SHARE)
        write_jsonl(out.path / f"copybook/{split}.jsonl", _copybook_rows(stage.seed, world, size))
    test = _write_dialogue(stage, out.path, worlds, numbers)
    _write_preference(stage, out.path, worlds, numbers)
    _write_thoughts(stage, out.path, worlds, numbers)
    rng = random.Random(derive_seed(stage.seed, "dirty"))
    wanted = make_pages(derive_seed(stage.seed, "dirty"), worlds["train"], 1e12, "dirty")
    documents = [next(wanted) for _ in range(stage.dirty_documents)]
    rows, labels = dirty.corpus(documents, test, rng, stage.dirty_rounds)
    write_jsonl(out.path / "dirty/corpus.jsonl", rows)
    write_jsonl(out.path / "dirty/labels.jsonl", labels)
    numbers["dirty"] = dict(sorted(Counter(label["defect"] for label in labels).items()))
    numbers["richness"] = report.richness(sample)
    write_json(out.path / "report.json", numbers)
    out.results.update({f"world.{key}": value for key, value in numbers["richness"].items()})
    out.results["world.test_items"] = len(test)
    size = sum(entry["bytes"] for entry in numbers["pages"].values())
    out.sources.append(
        {
            "name": "Luhuo world",
            "reference": f"world:seed={stage.seed}",
            "sha256": "",
            "licence": "Apache-2.0",
            "bytes": size,
        }
    )


def _copybook_rows(seed: int, world: facts.World, size: float) -> Iterator[dict[str, Any]]:
    rng = random.Random(derive_seed(seed, "copybook", world.split))
    source = make_pages(derive_seed(seed, "copybook"), world, float("inf"), world.split)
    done = 0
    for number, page in enumerate(copybook(source, world.people, rng)):
        if done >= size:
            return
        done += len(page.text.encode())
        yield {"id": f"copybook-{world.split}-{number:06d}", "text": page.text, "lang": page.lang, "kind": page.kind}


def _write_pages(
    stage: WorldStage, root: Path, world: facts.World, size: float, sample: list[tuple[str, str]]
) -> dict[str, Any]:
    split, kinds, done, kept = world.split, Counter[str](), 0, 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal done, kept
        for number, page in enumerate(make_pages(stage.seed, world, size, split)):
            bytes_ = len(page.text.encode())
            done += bytes_
            kinds[f"{page.kind}.{page.lang}"] += 1
            if split == "train" and kept < report.SAMPLE_BYTES:
                kept += bytes_
                sample.append((page.text, page.lang))
            bar.advance(bytes_ / 1e6)
            yield {
                "id": f"{split}-{number:06d}",
                "text": page.text,
                "lang": page.lang,
                "kind": page.kind,
                "entities": page.entities,
            }

    with Progress(tr(f"pages ({split})", f"页面（{split}）"), size / 1e6, "MB") as bar:
        count = write_jsonl(root / f"pages/{split}.jsonl", rows())
    return {"documents": count, "bytes": done, "kinds": dict(sorted(kinds.items()))}


def _write_dialogue(
    stage: WorldStage, root: Path, worlds: dict[str, facts.World], numbers: dict[str, Any]
) -> list[dict[str, Any]]:
    """Write the three splits; return the test items."""
    counts = {
        "train": stage.dialogues,
        "valid": stage.valid_dialogues,
        "test": stage.test_per_family * len(dialogue.FAMILIES),
    }
    test: list[dict[str, Any]] = []
    for split, count in counts.items():
        repeat = max(1, count // 2500) if split == "train" else 0
        talk = list(dialogue.chat(split, repeat))
        turns = stage.turns if split == "train" else 1
        made = dialogue.items(stage.seed, split, worlds[split], worlds["train"], count - len(talk), turns)
        rows = list(chain(talk, made)) if split == "train" else list(made)
        if split == "train":
            random.Random(derive_seed(stage.seed, "order")).shuffle(rows)
        else:
            test = rows
        write_jsonl(root / f"dialogue/{split}.jsonl", rows)
        numbers["dialogue"][split] = dict(sorted(Counter(row["family"] for row in rows).items()))
    return test


def _write_preference(stage: WorldStage, root: Path, worlds: dict[str, facts.World], numbers: dict[str, Any]) -> None:
    numbers["preference"], numbers["prompts"] = {}, {}
    for split, count, prompts in (
        ("train", stage.preferences, stage.prompts),
        ("test", max(10, stage.preferences // 6), max(10, stage.prompts // 6)),
    ):
        world = worlds[split]
        rng = random.Random(derive_seed(stage.seed, "preference", split))
        source = dialogue.items(stage.seed, f"preference-{split}", world, worlds["train"], count * 3)
        rows = list(preference.pairs(source, world, count, rng))
        write_jsonl(root / f"preference/{split}.jsonl", rows)
        numbers["preference"][split] = dict(sorted(Counter(row["defect"] for row in rows).items()))
        made = dialogue.items(stage.seed, f"prompts-{split}", world, worlds["train"], prompts)
        keep = ("id", "family", "lang", "messages", "answer", "check", "chance", "entities", "template")
        numbers["prompts"][split] = write_jsonl(
            root / f"prompts/{split}.jsonl", ({key: row[key] for key in keep} for row in made)
        )


def _write_thoughts(stage: WorldStage, root: Path, worlds: dict[str, facts.World], numbers: dict[str, Any]) -> None:
    numbers["thoughts"] = {}
    for split, count in (("train", stage.thoughts), ("test", stage.test_per_family * len(dialogue.THOUGHT))):
        made = dialogue.thoughts(stage.seed, f"thoughts-{split}", worlds[split], worlds["train"], count)
        numbers["thoughts"][split] = write_jsonl(root / f"thoughts/{split}.jsonl", made)
