"""Small runs of everything that can be trained, in processes that can be killed.

A process starts as a copy of one that has imported torch and trained nothing (`forkserver`, set up in conftest.py), so
that many of them are cheap, and none inherits threads.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import distributed

from luhuo.core.artifact import Workspace
from luhuo.core.errors import LuhuoError
from luhuo.core.metrics import MetricsLog
from luhuo.corpus.rows import RowLoader
from luhuo.dialogue.packing import ConversationLoader, TokenStore
from luhuo.dialogue.render import Rendered
from luhuo.model.config import ModelConfig, MoEConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import CausalLM
from luhuo.train.parallel import spread, whole
from luhuo.train.parallel_config import Parallel
from luhuo.train.ranks import Ranks
from luhuo.train.trainer import Trainer
from tests import golden

SAVING = {"steps": 8, "dtype": "fp32", "checkpoint_every_s": 0, "checkpoint_every": 1, "learning_rate": 0.01}
"""What a run is set to where nothing else is said."""
MIXTURE = {"moe": MoEConfig(experts=4, active=2, intermediate_size=16, balance=0.1, balance_over="sequence")}
DECODERS: dict[str, dict[str, Any]] = {
    "causal": golden.PLAIN,
    "two tokens": golden.PLAIN | {"mtp_layers": 1},
    "experts": golden.PLAIN | MIXTURE,
    "latent attention": golden.PLAIN
    | {name: golden.EXPERTS[name] for name in ("family", "kv_heads", "head_dim", "qk_norm", "mla")},
    "latent attention, experts, two tokens": golden.EXPERTS,
    "fine-tuning": golden.PLAIN,
    "replay": golden.PLAIN,
}
"""Models of the runs that predict the next token."""
CASES = [*DECODERS, *golden.OBJECTIVES]
"""Everything that can be trained, by name."""


class Documents:
    """Rows without noise out of a small language, a source for `RowLoader`."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def identity(self) -> dict[str, Any]:
        return {"seed": self.seed}

    def count(self, epoch: int) -> int:
        return 40

    def row(self, place: tuple[int, int]) -> dict[str, np.ndarray]:
        random = np.random.default_rng([self.seed, *place])
        ids = random.integers(0, golden.WORDS, golden.LENGTH + 1)
        return {"ids": ids, "segments": np.ones(len(ids), np.int32)}


def conversations() -> TokenStore:
    """Prompts that are no targets, and answers that are."""
    random = np.random.default_rng(0)
    rendered = []
    for _ in range(30):
        lengths = random.integers(2, 9, 2)
        ids = random.integers(1, golden.WORDS, lengths.sum()).tolist()
        rendered.append(Rendered(ids, [0] * int(lengths[0]) + [1] * int(lengths[1])))
    return TokenStore(rendered)


def parts(name: str) -> tuple[Any, Any, Any]:
    """Model, objective and loader of the whole batch."""
    if name in golden.OBJECTIVES:
        return golden.parts(f"objective: {name}")[:3]
    model = initialise(Decoder(ModelConfig(**DECODERS[name])), 0)
    loader: Any = golden.Corpus()
    if name == "fine-tuning":
        loader = ConversationLoader(conversations(), batch=golden.ROWS, length=golden.LENGTH, seed=0, pad_id=0)
    if name == "replay":
        loader = RowLoader(Documents(1), batch=golden.ROWS, old=Documents(2), share=0.25)
    return model, CausalLM(), loader


class Share:
    """The rows of this rank; with the batch of some steps comes a signal."""

    def __init__(self, loader: Any, rank: int, world: int, signals: dict[int, int]) -> None:
        self.loader, self.rows, self.signals = loader, slice(rank, None, world), signals
        self.taken = 0

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for batch in self.loader:
            if self.taken in self.signals:
                os.kill(os.getpid(), self.signals[self.taken])
            self.taken += 1
            yield {name: array[self.rows] for name, array in batch.items()}

    def state(self) -> dict[str, Any]:
        return self.loader.state()

    def restore(self, state: dict[str, Any]) -> None:
        self.loader.restore(state)


class Score:
    """The mean of a model's first matrix: a score that moves with every step."""

    def __call__(self, model: Any) -> dict[str, float]:
        return {"score": float(np.cos(1e4 * next(iter(model.parameters())).detach().double().mean().item()))}


@dataclass(frozen=True)
class Run:
    """A run of a case in a folder. `signals`: which signal comes with which batch; `only`: to this rank alone.

    `before` is called in the process with the run and the rank, before it begins.
    """

    case: str
    folder: Path = Path()
    settings: dict[str, Any] = field(default_factory=dict)
    signals: dict[int, int] = field(default_factory=dict)
    only: int | None = None
    parallel: dict[str, int] = field(default_factory=dict)
    before: Any = None

    def at(self, folder: Path, **changes: Any) -> Run:
        """This run in a folder, without signals but for those in `changes`."""
        return replace(self, **{"folder": folder, "signals": {}, **changes})

    def trainer(self) -> Trainer:
        """Its trainer, in this process."""
        model, objective, loader = parts(self.case)
        ranks = Ranks()
        signals = self.signals if self.only in (None, ranks.process) else {}
        model = spread(model, Parallel(**self.parallel))
        config = TrainerConfig(**{**SAVING, **self.settings})
        out = Workspace(self.folder, MetricsLog(self.folder / "metrics.jsonl"))
        share = Share(loader, ranks.rank, ranks.count, signals)
        return Trainer(model, objective, share, config, out, evaluate=Score() if config.eval_every else None)

    def weights(self) -> dict[str, torch.Tensor] | None:
        """Train; the whole weights in the first process."""
        trainer = self.trainer()
        trainer.run()
        model = whole(trainer.model)
        return None if model is None else {name: p.detach() for name, p in model.named_parameters()}


def together(run: Run, processes: int = 1) -> list[int]:
    """Run it; the exit code of every process, negative for a signal.

    What a process says is in `rank-N.txt` of the folder, the weights are in `result.safetensors`.
    """
    started = start(run, processes)
    for process in started:
        process.join(180)
    return [process.exitcode for process in started]


def start(run: Run, processes: int = 1) -> list[Any]:
    """The running processes of a run."""
    run.folder.mkdir(parents=True, exist_ok=True)
    context = get_context("forkserver")
    port = 0
    if processes > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    started = [context.Process(target=_process, args=(run, rank, processes, port)) for rank in range(processes)]
    for process in started:
        process.start()
    return started


def _process(run: Run, rank: int, count: int, port: int) -> None:
    code = 1
    log = (run.folder / f"rank-{rank}.txt").open("a")
    os.dup2(log.fileno(), sys.stderr.fileno())
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 (the one of the forkserver is another)
    torch.set_num_threads(1)
    try:
        if count > 1:
            address = f"tcp://127.0.0.1:{port}"
            distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=count)
        if run.before is not None:
            run.before(run, rank)
        weights = run.weights()
        if weights is not None:
            save_file(weights, run.folder / "result.safetensors")
        if count > 1:
            distributed.barrier()
        code = 0
    except LuhuoError as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    except BaseException:  # told in the file, and by the code
        traceback.print_exc()
    os._exit(code)  # as the command line does: taking Python down now and then aborts in a connection's thread
