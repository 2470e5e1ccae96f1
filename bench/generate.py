"""Generated tokens a second: Luhuo's engine against `transformers` on the same small model, alternating.

Greedy answers to short ragged prompts with a random model of quickstart size, fp32 on the CPU. "even": every answer
has 30 tokens. "ragged": answers have 2 to 58, 30 on average, as those of an assistant do; the peer runs each batch to
its longest answer and is credited with the wanted tokens. It gets batches of 64 sorted by prompt length, left padding
and its own KV cache. Run: python bench/generate.py [prompts] [repeats]
"""

from __future__ import annotations

import json
import platform
import random
import statistics
import sys
import tempfile
import time
from functools import partial

import torch
import transformers

from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.model.config import ModelConfig
from luhuo.model.count import parameters
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.save import save

NEW, BATCH = 30, 64
SHAPE = ModelConfig(
    vocab_size=4096, hidden_size=192, layers=6, heads=6, kv_heads=2, head_dim=32, intermediate_size=512
)


def prompts_of(count: int) -> list[list[int]]:
    chance = random.Random(0)
    return [[chance.randrange(SHAPE.vocab_size) for _ in range(chance.randrange(10, 60))] for _ in range(count)]


def ours(engine: Engine, prompts: list[list[int]], wanted: list[int]) -> int:
    settings = [Sampling(max_tokens=count, temperature=0.0, ignore_eos=True) for count in wanted]
    return sum(len(out.token_ids) for out in engine.generate(prompts, settings))


def theirs(model: transformers.PreTrainedModel, prompts: list[list[int]], wanted: list[int]) -> int:
    ordered = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for at in range(0, len(ordered), BATCH):
        group = [prompts[i] for i in ordered[at : at + BATCH]]
        longest = max(wanted[i] for i in ordered[at : at + BATCH])
        width = max(map(len, group))
        ids = torch.tensor([[0] * (width - len(p)) + p for p in group])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in group])
        out = model.generate(
            ids, attention_mask=mask, max_new_tokens=longest, min_new_tokens=longest, do_sample=False, pad_token_id=0
        )
        assert out.shape[1] == width + longest
    return sum(wanted)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 512
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    prompts = prompts_of(count)
    model = initialise(Decoder(SHAPE), 0).eval()
    with tempfile.TemporaryDirectory() as folder:
        save(model, folder)
        peer = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    engine = Engine(model, max_batch=BATCH)
    runs = {"luhuo": partial(ours, engine), "transformers": partial(theirs, peer)}
    chance = random.Random(1)
    cases = {"even": [NEW] * count, "ragged": [chance.randrange(2, 2 * NEW - 1) for _ in range(count)]}
    for run in runs.values():
        run(prompts[:BATCH], [NEW] * BATCH)
    table = {}
    for case, wanted in cases.items():
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(repeats):
            for name, run in runs.items():
                start = time.perf_counter()
                tokens = run(prompts, wanted)
                rates[name].append(tokens / (time.perf_counter() - start))
        medians = {name: round(statistics.median(values)) for name, values in rates.items()}
        table[case] = medians | {"ratio": round(medians["luhuo"] / medians["transformers"], 2)}
    result = {
        "prompts": count,
        "new_tokens": NEW,
        "batch": BATCH,
        "parameters": sum(parameters(SHAPE).values()),
        "threads": torch.get_num_threads(),
        "tokens_per_s": table,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "machine": platform.machine(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
