"""Tokens per second of a training step (forward, backward, update): Luhuo against transformers at its best setting.

    python bench/train_step.py [--shape small|smollm2] [--peers eager,compiled] [--steps 8] [--malloc own|kept|default]

Both sides train the same Llama layout on the same random tokens with AdamW, taking turns step by step, after warm-up
(compilation counts as warm-up and its time is printed). transformers runs in bf16 autocast with SDPA and fused AdamW;
Luhuo with fp32 master weights computing in bf16. Medians, and the ratio of medians. The share of the machine's bf16
matrix rate (measured in the same run) is counted with the same FLOPs for both.

The C library's allocator matters as much as many an operator. With `--malloc own` each side has a process to itself
and the allocator it comes with: Luhuo's trainer has it keep freed memory, a script with transformers has glibc's
defaults. With `default` and `kept` all sides share one process and that setting.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import signal
import statistics
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import transformers

from luhuo.core.memory import keep_freed_memory
from luhuo.kernels.native import library
from luhuo.model.config import ModelConfig
from luhuo.model.count import flops_per_token, parameters
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.train import half_gradients
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import CausalLM
from luhuo.train.optimisers import Optimiser
from luhuo.train.throughput import matmul_rate

SHAPES = {
    "small": (
        ModelConfig(
            family="llama",
            vocab_size=8192,
            hidden_size=256,
            layers=8,
            heads=8,
            kv_heads=8,
            head_dim=32,
            intermediate_size=704,
            qk_norm="none",
        ),
        16,
        256,
    ),
    "smollm2": (
        ModelConfig(
            family="llama",
            vocab_size=49152,
            hidden_size=576,
            layers=30,
            heads=9,
            kv_heads=3,
            head_dim=64,
            intermediate_size=1536,
            qk_norm="none",
        ),
        2,
        512,
    ),
}


def ours(config: ModelConfig, ids: torch.Tensor) -> Callable[[], float]:
    """One step of Luhuo."""
    model = initialise(Decoder(config), 0).train().compute_in(torch.bfloat16)
    optimiser = Optimiser(model, TrainerConfig(steps=1, optimiser="adamw", learning_rate=1e-3))
    half_gradients.keep_half(half_gradients.matrices(model, "adamw"), half=True)  # as the trainer does
    objective = CausalLM()

    def step() -> float:
        loss, weight, _ = objective.loss(model, {"ids": ids})
        (loss / weight).backward()
        optimiser.step(1.0)
        model.zero_grad(set_to_none=True)
        return (loss / weight).item()

    return step


def theirs(config: ModelConfig, ids: torch.Tensor, compiled: bool) -> Callable[[], float]:
    """One step of transformers."""
    settings = transformers.LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.head_dim,
        intermediate_size=config.intermediate_size,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
        use_cache=False,
    )
    model = transformers.LlamaForCausalLM(settings).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    call = torch.compile(model) if compiled else model
    inputs, labels = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16):
            loss = call(inputs, labels=labels, shift_labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss.item()

    return step


def timed(step: Callable[[], float], times: int = 1) -> float:
    """Seconds of that many steps."""
    start = time.perf_counter()
    for _ in range(times):
        step()
    return time.perf_counter() - start


def build(name: str, shape: str) -> Callable[[], float]:
    """The step of one side: "luhuo", "transformers eager" or "transformers compiled"."""
    config, rows, length = SHAPES[shape]
    torch.manual_seed(0)
    ids = torch.randint(0, config.vocab_size, (rows, length + 1))
    return ours(config, ids) if name == "luhuo" else theirs(config, ids, name.endswith("compiled"))


class Apart:
    """One side in a process of its own, with its own allocator; call it with a number of steps for their seconds.

    Between its turns the process is stopped, so that threads which wait busily cost the others nothing.
    """

    def __init__(self, name: str, shape: str, threads: int):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=self.serve, args=(theirs, name, shape, threads), daemon=True)
        self.process.start()

    def __call__(self, times: int = 1) -> float:
        os.kill(self.process.pid, signal.SIGCONT)
        self.pipe.send(times)
        seconds = self.pipe.recv()
        os.kill(self.process.pid, signal.SIGSTOP)
        return seconds

    def close(self) -> None:
        """End the process and wait until its memory is given back."""
        self.process.kill()
        self.process.join()

    @staticmethod
    def serve(pipe: Connection, name: str, shape: str, threads: int) -> None:
        """Answer every number that comes with the seconds of so many steps."""
        if name == "luhuo":
            keep_freed_memory()
        if threads:
            torch.set_num_threads(threads)
        step = build(name, shape)
        while True:
            pipe.send(timed(step, pipe.recv()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--peers", default="eager,compiled")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--malloc", choices=("own", "kept", "default"), default="own")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.malloc == "kept":
        keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    config, rows, length = SHAPES[options.shape]
    names = ["luhuo", *(f"transformers {peer}" for peer in options.peers.split(","))]
    rate = matmul_rate(torch.device("cpu"), torch.bfloat16)
    sides: dict[str, Callable[..., float]] = {}
    for name in names:
        if options.malloc == "own":
            sides[name] = Apart(name, options.shape, options.threads)
        else:
            sides[name] = partial(timed, build(name, options.shape))
    first = {name: side(2) for name, side in sides.items()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.steps):
        for name, side in sides.items():
            times[name].append(side())
    for side in sides.values():
        if isinstance(side, Apart):
            side.close()
    flops = flops_per_token(config, length) * rows * length
    result = {
        "shape": options.shape,
        "malloc": options.malloc,
        "native": library() is not None,
        "parameters": sum(parameters(config).values()),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "matmul_gflops": rate / 1e9,
        "tokens_per_s": {},
        "mfu": {},
        "first_two_steps_s": first,
    }
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        result["tokens_per_s"][name] = rows * length / middle
        result["mfu"][name] = flops / middle / rate
        spread = f"{rows * length / max(seconds):,.0f} to {rows * length / min(seconds):,.0f}"
        print(
            f"{name:24} {rows * length / middle:10,.0f} tokens/s ({spread})  MFU {flops / middle / rate:.0%}  "
            f"first two steps {first[name]:.1f} s"
        )
    mine = result["tokens_per_s"]["luhuo"]
    for name, value in result["tokens_per_s"].items():
        if name != "luhuo":
            print(f"luhuo / {name}: {mine / value:.2f}")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
