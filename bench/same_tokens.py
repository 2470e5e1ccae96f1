"""Are answers the same tokens whatever else runs? The engine against `transformers`, and against itself.

200 short chats in English and Chinese, 24 tokens each. First the reference: greedy tokens of `transformers.generate`
in fp32, prompts of equal length in one batch (no padding). Then the engine's greedy tokens in fp32:

    alone      one request at a time, nothing kept
    busy       sixteen at a time, prompts in chunks, beginnings of earlier texts reused
    uncached   the same without reuse
    preempted  the same with a cache so small that requests lose their rows and are computed again

An answer may part from the reference only where the two tokens' logits, computed by `transformers`, are within 1e-4
of each other; such places are counted, and any other is counted as wrong. `flips` compares seeded sampling
(temperature 1) alone with the same requests sixteen at a time, in fp32 (where no token may differ) and in bf16, where
the flip rate is places at which an answer left the other for every place compared.

Each part is a run of its own; the reference goes to FILE.
Run: OMP_NUM_THREADS=1 python bench/same_tokens.py PART FILE [--model REF] [--prompts N] [--new N]
     with PART reference, alone, busy, uncached, preempted or flips
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from luhuo.core.atomic import write_json
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.render import render
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.model.decoder import Decoder
from luhuo.model.load import load_decoder
from luhuo.model.save import save

BATCH, TIE = 16, 1e-4
VARIANTS: dict[str, dict[str, Any]] = {
    "alone": {"max_batch": 1, "prefix_cache": False},
    "busy": {"max_batch": BATCH, "step_tokens": 192},
    "uncached": {"max_batch": BATCH, "step_tokens": 192, "prefix_cache": False},
    "preempted": {"max_batch": BATCH, "step_tokens": 192, "cache_tokens": 512},
}
SUBJECTS = (
    "the sea", "bread", "bicycles", "the moon", "a small library", "winter", "bees", "old maps", "the number seven",
    "train stations", "茶", "长江", "雪", "围棋", "一座桥", "数学", "熊猫", "月亮", "书店", "春天",
)  # fmt: skip
QUESTIONS = (
    "Tell me something about {}.", "Write one sentence about {}.", "Why do people like {}?", "What is {} good for?",
    "List three facts about {}, please.", "How would you explain {} to a child of six?", "请介绍一下{}。",
    "用一句话描述{}。", "人们为什么喜欢{}？", "Translate “{}” into another language and say which one you chose.",
)  # fmt: skip


def chats(model: Decoder, count: int) -> list[list[int]]:
    """Token ids of the first `count` of all subjects with all questions, shuffled."""
    assert model.tokenizer is not None
    texts = [question.format(subject) for subject, question in itertools.product(SUBJECTS, QUESTIONS)]
    random.Random(0).shuffle(texts)
    conversations = [Conversation.of([{"role": "user", "content": text}]) for text in texts[:count]]
    return [render(one, model.tokenizer, generation_prompt=True).ids for one in conversations]


def peer_of(model: Decoder) -> Any:
    """The same fp32 weights in `transformers`."""
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder) / "model")
        return transformers.AutoModelForCausalLM.from_pretrained(Path(folder) / "model", dtype=torch.float32).eval()


def reference(model: Decoder, prompts: list[list[int]], new: int) -> list[list[int]]:
    """Greedy tokens of `transformers`, which goes on behind an end token as the engine is told to."""
    peer, found = peer_of(model), dict[int, list[int]]()
    peer.generation_config.eos_token_id = None
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for length, places in itertools.groupby(order, key=lambda i: len(prompts[i])):
        same = list(places)
        for group in (same[at : at + BATCH] for at in range(0, len(same), BATCH)):
            ids = torch.tensor([prompts[i] for i in group])
            out = peer.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new,
                repetition_penalty=1.0, pad_token_id=0,
            )  # fmt: skip
            found |= {i: row[length:] for i, row in zip(group, out.tolist(), strict=True)}
    return [found[i] for i in range(len(prompts))]


def greedy(model: Decoder, prompts: list[list[int]], wanted: list[list[int]], options: dict[str, Any]) -> dict:
    """How the engine's greedy tokens compare with the reference."""
    engine, new = Engine(model, **options), len(wanted[0])
    began = time.process_time()
    outs = engine.generate(prompts, Sampling(max_tokens=new, temperature=0.0, ignore_eos=True))
    seconds = time.process_time() - began
    parted = [
        (i, place)
        for i, (out, tokens) in enumerate(zip(outs, wanted, strict=True))
        if (place := first_difference(out.token_ids, tokens)) is not None
    ]
    peer = peer_of(model) if parted else None
    gaps = []
    for i, place in parted:
        with torch.inference_mode():
            logits = peer(torch.tensor([prompts[i] + wanted[i][:place]])).logits[0, -1]
        gaps.append(float((logits[outs[i].token_ids[place]] - logits[wanted[i][place]]).abs()))
    cache = engine.scheduler.pool.prefix
    return {
        "answers": len(outs),
        "tokens": new * len(outs),
        "equal_answers": len(outs) - len(parted),
        "parted_at_a_tie": sum(gap <= TIE for gap in gaps),
        "wrong": sum(gap > TIE for gap in gaps),
        "gaps": [float(f"{gap:.2g}") for gap in gaps],
        "preemptions": engine.scheduler.preemptions,
        "reused_tokens": cache.found if cache else 0,
        "processor_s": round(seconds, 1),
    }


def flips(model: Decoder, prompts: list[list[int]], new: int) -> dict:
    """Seeded sampling, alone and sixteen at a time: places compared, and answers that left each other."""
    settings = [Sampling(max_tokens=new, temperature=1.0, seed=i, ignore_eos=True) for i in range(len(prompts))]
    runs = [Engine(model, **VARIANTS[name]).generate(prompts, settings) for name in ("alone", "busy")]
    places = [first_difference(a.token_ids, b.token_ids) for a, b in zip(*runs, strict=True)]
    compared = sum(new if place is None else place + 1 for place in places)
    flipped = sum(place is not None for place in places)
    return {
        "answers": len(prompts),
        "places": compared,
        "flips": flipped,
        "flips_per_1000_tokens": round(1000 * flipped / compared, 2),
    }


def first_difference(a: list[int], b: list[int]) -> int | None:
    """The first place at which two answers of one length differ."""
    return next((place for place, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("reference", *VARIANTS, "flips"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--new", type=int, default=24)
    given = parser.parse_args()
    model = load_decoder(given.model, "fp32", "cpu")
    prompts = chats(model, given.prompts)
    report: dict[str, Any] = {"part": given.part, "model": given.model}
    if given.part == "reference":
        write_json(given.file, reference(model, prompts, given.new))
        report |= {"answers": len(prompts), "prompt_tokens": sum(map(len, prompts))}
    elif given.part == "flips":
        report["fp32"] = flips(model, prompts, given.new)
        report["bf16"] = flips(load_decoder(given.model, "bf16", "cpu"), prompts, given.new)
    else:
        wanted = json.loads(given.file.read_text(encoding="utf-8"))
        report |= greedy(model, prompts[: len(wanted)], wanted, VARIANTS[given.part])
    report["versions"] = {"torch": torch.__version__, "transformers": transformers.__version__}
    report["machine"] = platform.machine()
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
