"""Control by attributes: is what is asked for obeyed on held-out prompts, and not where attributes were shuffled?

    python bench/control.py RUN [--seeds 0] [--steps 300] [--batch 2048] [--asked 400] [--arms …] [--out DIR]

From the world of a quickstart run (RUN/world) questions are written whose answers can have several forms, drawn by
chance: short (the answer alone) or long (with its working), plain or as JSON; and texts that are to be said in English
or in Chinese, whichever language they are given in. Stage `control` reads length, format and language out of the
answers. Three arms start from RUN/assistant with the same rows and steps: control as text, control as tokens of their
own, and, as the control experiment, text with the attributes of other rows (`shuffle`). Stage `control-scores` asks
held-out prompts (RUN/world/dialogue/test.jsonl: other entities and wordings) and reads the answers.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHORT, LONG = 6, 10
"""Words: answers have at most so many, answers with their working at least so many."""
ATTRIBUTES: list[dict[str, Any]] = [
    {"kind": "length", "classes": ["short", "long"], "edges": [9]},
    {"kind": "pattern", "name": "format", "patterns": {"json": r"\{.*\}"}, "other": "plain"},
    {"kind": "language"},
]
SETTINGS: dict[str, Any] = {
    "length": 256,
    "learning_rate": 0.003,
    "optimiser": "muon",
    "dtype": "fp32",
    "device": "cpu",
    "threads": 1,
    "checkpoint_every_s": 0,
}
ASKED = {
    "questions": {"length": ["short", "long"], "format": ["json", "plain"]},
    "sayings": {"language": ["en", "zh"], "format": ["json", "plain"]},
}


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file."""
    with path.open(encoding="utf-8") as handle:
        yield from map(json.loads, handle)


def questions(items: list[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """(question, its answer and the same with its working)."""
    from luhuo.verify.scoring import words

    for item in items:
        if len(item["messages"]) == 1 and words(item["answer"]) <= SHORT and words(item["response"]) >= LONG:
            yield item["messages"][0]["content"], [item["answer"], item["response"]]


def sayings(items: list[dict[str, Any]], chance: random.Random) -> Iterator[tuple[str, list[str]]]:
    """(a text to be said, it in English and in Chinese), from translations asked for in the other language."""
    foreign = {
        "translate_en_zh": ("zh", r"[A-Za-z][A-Za-z ,.'’-]*[A-Za-z.]"),
        "translate_zh_en": ("en", r"[一-鿿·，。]+"),
    }
    for item in items:
        lang, pattern = foreign.get(item["family"], ("", ""))
        if item["lang"] == lang and len(item["messages"]) == 1:
            source = max(re.findall(pattern, item["messages"][0]["content"]), key=len)
            both = [source, item["answer"]] if lang == "zh" else [item["answer"], source]
            given = chance.choice(both)
            yield chance.choice(["Say: ", "说："]) + given, both


def write(folder: Path, run: Path) -> None:
    """The rows to learn from, and the prompts to ask."""
    chance = random.Random(0)
    train, test = (list(read(run / "world" / "dialogue" / f"{part}.jsonl")) for part in ("train", "test"))
    rows = []
    for prompt, answers in [*questions(train), *sayings(train, chance)]:
        said = chance.choice(answers)
        said = json.dumps({"answer": said}, ensure_ascii=False) if chance.random() < 0.5 else said
        rows.append({"prompt": prompt, "completion": said})
    chance.shuffle(rows)
    asked = {"questions": questions(test), "sayings": sayings(test, chance)}
    for name, found in {"train": rows, **{k: [{"prompt": p} for p, _ in v] for k, v in asked.items()}}.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def arm(name: str, seed: int, folder: Path, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Train one arm, and ask it: the scores of both kinds of prompts."""
    from luhuo.core.artifact import produce
    from luhuo.stages import configured

    out = folder / f"{name}-{seed}"
    shuffle = name == "shuffled"
    data = {"data": str(folder / "train.jsonl"), "attributes": ATTRIBUTES, "shuffle": shuffle, "seed": seed}
    produce("control", configured("control", data), out / "data")
    tokens = {"control": str(out / "data")} if name == "tokens" else {}
    model = {"model": str(Path(options.run) / "assistant"), "data": str(out / "data" / "train.jsonl")}
    values = SETTINGS | model | tokens | {"steps": options.steps, "batch": options.batch, "seed": seed}
    start = time.process_time()
    produce("sft", configured("sft", values), out / "model")
    print(f"{name}, seed {seed}: {time.process_time() - start:.0f} s of processor", file=sys.stderr, flush=True)
    found = {}
    for kind, wanted in ASKED.items():
        values = {"model": str(out / "model"), "prompts": str(folder / f"{kind}.jsonl"), "control": str(out / "data")}
        values |= {"ask": wanted, "limit": options.asked, "seed": seed, "threads": 1, "max_tokens": 96}
        done = produce("control-scores", configured("control-scores", values), out / kind)
        found[kind] = json.loads((done.path / "scores.json").read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Print a table: by attribute, the share obeyed in each arm, and without being asked."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--asked", type=int, default=400)
    parser.add_argument("--arms", default="text,tokens,shuffled")
    parser.add_argument("--out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(options.out or tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, Path(options.run))
    print("| arm | seed | asked | n | obeyed [95%] | without being asked | difference [95%] |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in options.arms.split(","):
        for seed in map(int, options.seeds.split(",")):
            for kind, scores in arm(name, seed, folder, options).items():
                for attribute, found in scores.items():
                    gain = found["gain"]
                    print(
                        f"| {name} | {seed} | {kind}: {attribute} | {found['n']} "
                        f"| {found['obeyed']:.1%} [{found['low']:.1%}, {found['high']:.1%}] | {found['without']:.1%} "
                        f"| {100 * gain['difference']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}] |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
