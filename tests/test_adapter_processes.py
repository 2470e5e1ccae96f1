"""Two processes teach an adapter what one does, whatever the method draws or chooses."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import distributed, multiprocessing

from luhuo.adapter.attach import attached
from luhuo.core.artifact import Workspace
from luhuo.core.metrics import MetricsLog
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import CausalLM
from luhuo.train.parallel import spread
from luhuo.train.parallel_config import Parallel
from luhuo.train.ranks import Ranks
from luhuo.train.trainer import Trainer
from tests.test_adapter_training import ALL, Rows, adapted


class Share(Rows):
    """This process's rows of each batch."""

    def __init__(self, rank: int, count: int) -> None:
        super().__init__()
        self.rank, self.count = rank, count

    def __iter__(self):
        for batch in super().__iter__():
            yield {name: array[self.rank :: self.count] for name, array in batch.items()}


def train(folder: Path) -> dict[str, torch.Tensor]:
    """Three steps of every method; all that was trained, by method and name."""
    found: dict[str, torch.Tensor] = {}
    ranks = Ranks()
    for method, values in ALL.items():
        path = folder / method.replace(" ", "_")
        path.mkdir(parents=True, exist_ok=True)
        model = spread(adapted(values), Parallel())
        settings: dict[str, Any] = {"steps": 3, "learning_rate": 1e-3, "dtype": "fp32", "warmup": 0.0}
        config = TrainerConfig(**settings, optimiser="adafactor", relative=False, prefetch=0, checkpoint_every_s=0)
        loader = Share(ranks.rank, ranks.count)
        Trainer(model, CausalLM(), loader, config, Workspace(path, MetricsLog(path / "metrics.jsonl"))).run()
        adapter = attached(model)
        assert adapter is not None
        found |= {f"{method}/{name}": p.detach().clone() for name, p in adapter.trained().items()}
    return found


def _process(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found = train(folder)
    if rank == 0:
        save_file(found, folder / "result.safetensors")
    distributed.barrier()
    distributed.destroy_process_group()


def test_two_processes_teach_every_adapter_what_one_does(tmp_path: Path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in each of the two: near-equal singular values turn with the last bit
    alone = train(tmp_path / "alone")
    torch.set_num_threads(threads)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "two").mkdir()
    multiprocessing.start_processes(_process, (port, tmp_path / "two"), nprocs=2, start_method="forkserver")
    together = load_file(tmp_path / "two" / "result.safetensors")
    assert alone.keys() == together.keys()
    for name, tensor in alone.items():
        assert torch.allclose(tensor, together[name], atol=2e-4), name
