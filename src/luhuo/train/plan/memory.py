"""The most memory a training run holds at a time, from its shapes.

Three moments can be the peak: the loss, when all activations are there but no gradient of a block; the end of the
backward pass, when all gradients are; and a checkpoint written in the background, whose copy of weights and optimiser
stays while the next step is computed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from luhuo.model.config import ModelConfig
from luhuo.model.count import parameters
from luhuo.train.cross_entropy import BLOCK, VOCABULARY, chunk_rows
from luhuo.train.half_gradients import HALVES
from luhuo.train.plan.activations import Kept, kept

STATE: dict[str, tuple[float, float]] = {
    "adamw": (8, 8),
    "muon": (4, 8),
    "lion": (4, 4),
    "adamw8": (2.06, 8),
    "lion8": (1.03, 4),
    "adafactor": (0.05, 0.05),
}
"""Bytes of optimiser state a parameter: of the blocks' matrices, and of everything else."""

HOLES = {"cpu": (1.15, 2.4), "cuda": (1.0, 1.3)}
"""What the allocator holds for each byte that stays until the backward pass, and for each that comes and goes within
a block. On a CPU fitted to the peaks of bench/train_memory.py: glibc keeps the holes between tensors below 32 MB (with
a fixed mmap threshold of 1 MB one run took 685 MB instead of 974, and six times as long in the kernel)."""
EXPERTS = 1.3
"""The same for experts on top: every expert's rows are another number in every pass."""
UPDATE = 60e6
"""Temporaries of Muon, which goes through the matrices in bunches."""

PROCESS = {"cpu": 370e6, "cuda": 900e6}
"""What a process holds before there is a model: on a CPU Python with PyTorch and this package, and code and buffers of
oneDNN; on a GPU (of its memory) the CUDA context, kernels and workspaces, which was not measured here."""


@dataclass(frozen=True)
class Run:
    """What decides the memory of one process."""

    model: ModelConfig
    rows: int
    """Of one forward pass."""
    length: int
    optimiser: str = "muon"
    recompute: str = "none"
    half: bool = True
    """Products in bf16."""
    averaged: bool = False
    background: bool = True
    """Checkpoints are written while training goes on: on a GPU their copy is in the host's memory."""
    pieces: int = 1
    """Processes that share weights, gradients and optimiser state (FSDP)."""
    kind: str = "cpu"
    split: bool = False
    """Several forward passes are summed, in fp32."""


@dataclass(frozen=True)
class Memory:
    """Bytes in one process."""

    weights: float
    gradients: float
    optimiser: float
    average: float
    checkpoint: float
    activations: float
    loss: float
    """Of the loss: its share of the output layer's gradient apart."""
    process: float
    peak: float

    def as_dict(self) -> dict[str, int]:
        """Whole bytes by name."""
        return {name: round(value) for name, value in asdict(self).items()}


def memory(run: Run) -> Memory:
    """The peak of a run and what it is made of."""
    config, size, tokens = run.model, 2 if run.half else 4, run.rows * run.length
    counts = parameters(config)
    total = sum(counts.values())
    matrices = sum(counts.get(name, 0) for name in ("attention", "mlp", "experts", "mtp"))
    own = 1 / run.pieces
    weights, gradients = 4 * total * own, 4 * total * own
    if run.half and run.kind == "cpu" and run.pieces == 1 and run.optimiser in HALVES and not run.split:
        gradients -= 2 * (counts.get("attention", 0) + counts.get("mlp", 0))
    of_matrices, of_rest = STATE[run.optimiser]
    optimiser = (of_matrices * matrices + of_rest * (total - matrices)) * own
    average = 4 * total * own if run.averaged else 0.0
    # Background copies lie in the host's memory: that is this memory on a CPU.
    copies = weights + optimiser + average if run.background and run.kind == "cpu" else 0.0
    blocks = [
        kept(config, layer, rows=run.rows, length=run.length, size=size, kind=run.kind)
        for layer in range(config.layers)
    ]
    staying, passing = (x * (EXPERTS if config.moe and run.kind == "cpu" else 1) for x in HOLES[run.kind])
    held = staying * sum(block.bytes(run.recompute, tokens) for block in blocks)
    again = passing * max(_inside(block, run.recompute, tokens) for block in blocks)
    # A block at work: the widest activations, their gradients, and where pieces are kept its gathered weights.
    width = 2 * config.intermediate_size * config.gated + config.intermediate_size + 4 * config.hidden_size
    working = passing * width * size * tokens + (8 * matrices / config.layers if run.pieces > 1 else 0)
    state = weights + optimiser + average + copies
    table = 4.0 * config.vocab_size * (config.embedding_size or config.hidden_size)
    loss = _loss(config, tokens, size, run.kind)
    at_loss = state + held + table + loss + 2 * config.hidden_size * size * tokens
    early = state + held + table + again + working
    # On a GPU the gradient of an embedding lookup is a table of its own before it joins the output layer's.
    late = state + gradients + again + working + (table if config.tie_embeddings and run.kind != "cpu" else 0)
    peak = PROCESS[run.kind] + max(
        at_loss, early, late, state + gradients + (UPDATE if run.optimiser == "muon" else 0.0)
    )
    activations = held + again
    return Memory(weights, gradients, optimiser, average, copies, activations, loss, PROCESS[run.kind], peak)


def _inside(block: Kept, recompute: str, tokens: int) -> float:
    """What computing a block again brings back, while the others are as they were kept."""
    return max(0.0, block.whole(tokens) - block.bytes(recompute, tokens))


def _loss(config: ModelConfig, tokens: int, size: int, kind: str) -> float:
    """Chunks of logits, their softmax in fp32, the output layer in the products' format, a piece of its gradient."""
    rows = min(-(-tokens // 64) * 64, chunk_rows(config.vocab_size, kind))
    at_once, table = (min(rows, BLOCK), VOCABULARY) if kind == "cpu" else (rows, config.vocab_size)
    width = config.embedding_size or config.hidden_size
    matrix = config.vocab_size * width * size if size == 2 else 0
    softmax = 2 * 4 * at_once * config.vocab_size
    return rows * config.vocab_size * size + softmax + matrix + min(table, config.vocab_size) * width * size
