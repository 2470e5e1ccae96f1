"""Training steps on a GPU (forward, backward, clipping, update): Luhuo against transformers at its best setting.

    python bench/gpu_train.py [--shapes 0.4b,1.3b,moe] [--seconds 6] [--out FILE.json] [--toy]

Every shape trains on random tokens in rows of 2,048: Luhuo with fp32 master weights computing in bf16, AdamW, as its
trainer does it (eagerly; with its blocks compiled; with FP8 products too; and on packed rows of documents of some 512
tokens), transformers with fp32 weights under bf16 autocast, SDPA with the same order of kernels, fused AdamW and
torch.compile. Rows a step are the most that the free memory is expected to hold, halved when it does not. After three
steps of warm-up, whose time (compilation) is printed by itself, steps are timed for `--seconds`; medians. MFU is the
model's operations against the rate of a bf16 matrix product of 8,192³ random numbers measured in the same run. The
table goes to the output, everything to the JSON file. `--toy` runs tiny shapes on whatever device there is.

Needs PyTorch; without transformers its column is left out. It takes some eight minutes on an H200.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from luhuo.kernels import fp8
from luhuo.model.config import ModelConfig, MoEConfig
from luhuo.model.count import flops_per_token, parameters
from luhuo.model.decoder import Decoder
from luhuo.train.compiling import Compiler
from luhuo.train.config import TrainerConfig
from luhuo.train.cuda import settings
from luhuo.train.eight_bit_products import multiply_in_fp8
from luhuo.train.gradients import Gradients
from luhuo.train.objective import CausalLM
from luhuo.train.optimisers import Optimiser
from luhuo.train.ranks import Ranks
from luhuo.train.throughput import matmul_rate

WARM = 3
DOCUMENT = 512
"""Mean tokens of a document in packed rows."""


def llama(**sizes: Any) -> ModelConfig:
    """A dense model as transformers' Llama has it."""
    return ModelConfig(**{"family": "llama", "qk_norm": "none", "head_dim": 64, **sizes})


LARGE: dict[str, tuple[ModelConfig, int, int]] = {
    "0.4b": (
        llama(vocab_size=32768, hidden_size=1024, layers=24, heads=16, kv_heads=16, intermediate_size=2816),
        32,
        2048,
    ),
    "1.3b": (
        llama(
            vocab_size=32768,
            hidden_size=2048,
            layers=24,
            heads=16,
            kv_heads=16,
            head_dim=128,
            intermediate_size=5632,
        ),
        16,
        2048,
    ),
    "moe": (
        ModelConfig(
            vocab_size=32768,
            hidden_size=1024,
            layers=16,
            heads=16,
            kv_heads=4,
            head_dim=64,
            intermediate_size=2816,
            moe=MoEConfig(experts=32, active=4, intermediate_size=704, balance=0.01),
        ),
        16,
        2048,
    ),
}
"""By name: the model, rows a step at most, tokens a row."""
TOY: dict[str, tuple[ModelConfig, int, int]] = {
    "dense": (
        llama(vocab_size=64, hidden_size=32, layers=2, heads=2, kv_heads=2, head_dim=16, intermediate_size=64),
        2,
        16,
    ),
    "moe": (
        ModelConfig(
            vocab_size=64,
            hidden_size=32,
            layers=2,
            heads=2,
            kv_heads=2,
            head_dim=16,
            intermediate_size=64,
            moe=MoEConfig(experts=4, active=2, intermediate_size=16),
        ),
        2,
        16,
    ),
}


@dataclass
class Run:
    """One variant of one shape, measured."""

    name: str
    rows: int
    tokens_per_s: float
    mfu: float
    first_s: float
    peak_gib: float
    loss: float


def planned_rows(config: ModelConfig, most: int, length: int, free: int) -> int:
    """Rows of which weights, gradients, AdamW's moments (16 bytes a parameter) and activations fit `free` bytes."""
    inner = config.intermediate_size if config.moe is None else config.moe.active * config.moe.intermediate_size
    wide = 16 * config.hidden_size + 4 * config.heads * config.head_dim + 8 * inner
    token = 2 * config.layers * wide + 8 * config.hidden_size
    left = 0.85 * free - 16 * sum(parameters(config).values()) - 4 * 4096 * config.vocab_size
    rows = most
    while rows > 1 and rows * length * token > left:
        rows //= 2
    return rows


def randomise(model: torch.nn.Module, seed: int = 0) -> None:
    """Plain random weights, made where they are: what is learned does not matter here."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 0.02) if p.dim() > 1 else p.fill_(1.0)


def tokens(config: ModelConfig, rows: int, length: int, device: torch.device, packed: bool) -> dict[str, Tensor]:
    """Random rows; `packed`: of documents."""
    generator = torch.Generator().manual_seed(1)
    batch = {"ids": torch.randint(0, config.vocab_size, (rows, length + 1), generator=generator)}
    if packed:
        borders = torch.rand(batch["ids"].shape, generator=generator) < 1 / min(DOCUMENT, length / 4)
        batch["segments"] = borders.cumsum(1).int() + 1
    return {name: tensor.to(device) for name, tensor in batch.items()}


def ours(config: ModelConfig, batch: dict[str, Tensor], device: torch.device, compiled: bool, eight: bool) -> Any:
    """(step, clean up) of Luhuo's trainer."""
    with torch.device(device):
        model = Decoder(config)
    randomise(model)
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    model.train().compute_in(None if kind == torch.float32 else kind)
    if eight:
        multiply_in_fp8(model)
    optimiser = Optimiser(model, TrainerConfig(steps=1, optimiser="adamw", learning_rate=1e-4))
    gradients = Gradients(model, CausalLM(), Ranks(), 0)
    backend = "inductor" if device.type == "cuda" else "aot_eager"
    gradients.compiler = Compiler(model, "default" if compiled else "none", backend=backend).__enter__()

    def step() -> float:
        weight, total = gradients.compute(batch, 1)
        gradients.reduce(1.0)
        optimiser.step(1.0)
        model.update_balance(0.0)
        model.zero_grad(set_to_none=True)
        return (total["loss"] / weight).item()

    return step, gradients.compiler.__exit__


def theirs(config: ModelConfig, batch: dict[str, Tensor], device: torch.device, compiled: bool) -> Any:
    """(step, clean up) of transformers."""
    import transformers

    given: Any = transformers.LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.head_dim,
        intermediate_size=config.intermediate_size,
        tie_word_embeddings=config.tie_embeddings,
        use_cache=False,
    )
    given._attn_implementation = "sdpa"
    with torch.device(device):
        model: Any = transformers.LlamaForCausalLM(given).float().train()
    randomise(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    forward = torch.compile(model, dynamic=False) if compiled else model
    ids = batch["ids"][:, :-1]

    def step() -> float:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = forward(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss.item()

    return step, lambda *_: torch._dynamo.reset()


def measure(step: Callable[[], float], device: torch.device, seconds: float) -> tuple[float, float, float, float]:
    """(median seconds a step, seconds of the warm-up, GiB at most, last loss)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    loss = 0.0
    for _ in range(WARM):
        loss = step()
    first, times = time.perf_counter() - start, []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        loss = step()  # it ends with a number that was waited for
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    return statistics.median(times), first, peak, loss


def variants(config: ModelConfig, device: torch.device, peer: bool) -> dict[str, Callable[[dict[str, Tensor]], Any]]:
    """By name: what makes a step for a batch. Names that end in `packed` get packed rows."""
    found: dict[str, Callable[[dict[str, Tensor]], Any]] = {
        "luhuo eager": lambda batch: ours(config, batch, device, False, False),
        "luhuo compiled": lambda batch: ours(config, batch, device, True, False),
        "luhuo compiled, packed": lambda batch: ours(config, batch, device, True, False),
    }
    if fp8.in_hardware(device) or device.type == "cpu":
        found["luhuo compiled, fp8"] = lambda batch: ours(config, batch, device, True, True)
    if peer and config.moe is None:
        found["transformers compiled"] = lambda batch: theirs(config, batch, device, device.type == "cuda")
    return found


def run(
    name: str, shape: tuple[ModelConfig, int, int], device: torch.device, rate: float, seconds: float
) -> list[Run]:
    """All variants of a shape, with equal rows unless one of them needs fewer."""
    config, most, length = shape
    free = torch.cuda.mem_get_info()[0] if device.type == "cuda" else 2**34
    found = []
    for variant, make in variants(config, device, importlib.util.find_spec("transformers") is not None).items():
        rows = planned_rows(config, most, length, free)
        while True:
            try:
                step, done = make(tokens(config, rows, length, device, variant.endswith("packed")))
                taken, first, peak, loss = measure(step, device, seconds)
                done(None, None, None)
                break
            except torch.OutOfMemoryError:
                if rows == 1:
                    raise
                rows //= 2
            finally:
                step = done = None
                gc.collect()
                if device.type == "cuda":
                    torch.cuda.empty_cache()
        speed = rows * length / taken
        found.append(Run(variant, rows, speed, speed * flops_per_token(config, length) / rate, first, peak, loss))
        print(name, found[-1], flush=True)
    return found


def table(results: dict[str, list[Run]]) -> str:
    """Markdown, with ratios to transformers where it was measured."""
    lines = [
        "| shape | variant | rows | tokens/s | MFU | to transformers | peak GiB | first 3 steps |",
        "|" + "---|" * 8,
    ]
    for name, runs in results.items():
        peer = next((each.tokens_per_s for each in runs if each.name.startswith("transformers")), None)
        for each in runs:
            ratio = f"{each.tokens_per_s / peer:.2f}" if peer else "-"
            lines.append(
                f"| {name} | {each.name} | {each.rows} | {each.tokens_per_s:,.0f} | {each.mfu:.0%} | {ratio} "
                f"| {each.peak_gib:.1f} | {each.first_s:.0f} s |"
            )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--toy", action="store_true")
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type != "cuda" and not options.toy:
        parser.error("no CUDA device here; --toy runs tiny shapes")
    shapes = TOY if options.toy else LARGE
    chosen = options.shapes.split(",") if options.shapes else list(shapes)
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    rate = matmul_rate(device, kind)
    machine = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(f"{machine}, PyTorch {torch.__version__}, matrix product {rate / 1e12:.1f} TFLOP/s", flush=True)
    results = {}
    with settings(device, kind):
        for name in chosen:
            results[name] = run(name, shapes[name], device, rate, options.seconds)
            if options.out:  # after every shape: what was measured is not lost
                values = {key: [vars(each) for each in runs] for key, runs in results.items()}
                head = {"machine": machine, "torch": torch.__version__, "matmul_flops": rate}
                options.out.write_text(json.dumps({**head, "results": values}, indent=2) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
