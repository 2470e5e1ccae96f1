"""What an optimiser keeps: cut off and resumed, in pieces over processes, and of another optimiser."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing
from torch.distributed.tensor import DTensor

from luhuo.core.errors import LuhuoError
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.train.checkpoint import Writer, read_last
from luhuo.train.config import TrainerConfig
from luhuo.train.optimisers import Optimiser
from luhuo.train.parallel import spread
from luhuo.train.parallel_config import Parallel
from luhuo.train.pieces import cut_of, piece
from tests.test_model_decoder import CONFIG
from tests.test_train_optimisers import EXPERT_STACK, OPTIMISERS
from tests.test_train_trainer import SmallLoader, losses, same, train


class Ending(SmallLoader):
    """Ends the run without a word at its sixth batch."""

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for batch in super().__iter__():
            if self.step == 6:
                raise EOFError
            yield batch


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_cut_off_and_resumed_every_optimiser_gives_byte_identical_weights(tmp_path: Path, optimiser: str) -> None:
    settings: dict[str, Any] = {"optimiser": optimiser, "ema": 0.5, "batch_warmup": 0.5}
    straight = train(tmp_path / "straight", **settings)
    with pytest.raises(EOFError):
        train(tmp_path / "cut", Ending(), checkpoint_every=2, background=False, **settings)
    kept = read_last(tmp_path / "cut" / ".checkpoint")
    assert kept is not None and 0 < kept.step < 8
    assert same(straight, train(tmp_path / "cut", **settings))
    assert losses(tmp_path / "straight") == losses(tmp_path / "cut")


def test_a_checkpoint_of_another_optimiser_is_refused_with_one_message(tmp_path: Path) -> None:
    def saved(optimiser: str) -> Optimiser:
        return Optimiser(initialise(Decoder(CONFIG), 0), TrainerConfig(steps=1, optimiser=optimiser))

    writer = Writer(tmp_path, background=False)
    writer.write(1, {"optimiser": saved("adamw").state()}, {})
    found = read_last(tmp_path)
    assert found is not None
    saved("adamw").restore(found)
    for optimiser in ("muon", "lion", "adafactor", "adamw8", "lion8"):
        with pytest.raises(LuhuoError, match="another optimiser") as caught:
            saved(optimiser).restore(found)
        assert "exp_avg" in str(caught.value.found)


def _stepped(folder: Path, optimiser: str, spread_model: bool) -> tuple[Decoder, Optimiser]:
    """Two steps with given gradients, whole or of this process's pieces, then a checkpoint."""
    model = initialise(Decoder(EXPERT_STACK), 0)
    model = spread(model, Parallel(fsdp=2)) if spread_model else model
    found = Optimiser(model, TrainerConfig(steps=2, optimiser=optimiser, learning_rate=0.01))
    for step in range(2):
        _give_gradients(model, step)
        found.step(1.0)
    count = distributed.get_world_size() if spread_model else 1
    rank = distributed.get_rank() if spread_model else 0
    parts = {"model": dict(model.named_parameters()), "optimiser": found.state()}
    cuts = {name: cut_of(p) for name, p in model.named_parameters()}
    (folder / optimiser).mkdir(parents=True, exist_ok=True)
    Writer(folder / optimiser, rank=rank, ranks=count, cuts=cuts, background=False).write(2, parts, {})
    return model, found


def _give_gradients(model: Decoder, step: int) -> None:
    random = torch.Generator().manual_seed(step)
    for p in model.parameters():
        whole = torch.randn(p.shape, generator=random)
        if isinstance(p, DTensor):
            mine = piece(whole, p).contiguous()
            p.grad = DTensor.from_local(mine, p.device_mesh, p.placements, shape=p.shape, stride=p.stride())
        elif p.requires_grad:
            p.grad = whole


def _sharded(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for optimiser in OPTIMISERS:
        _stepped(folder, optimiser, spread_model=True)
    distributed.barrier()
    distributed.destroy_process_group()
    os._exit(0)


def test_pieces_of_the_weights_move_as_the_whole_and_their_checkpoint_continues_in_one_process(
    tmp_path: Path,
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.start_processes(_sharded, (port, tmp_path), nprocs=2, start_method="forkserver")
    for optimiser in OPTIMISERS:
        alone, with_state = _stepped(tmp_path / "alone", optimiser, spread_model=False)
        found = read_last(tmp_path / optimiser)
        assert found is not None
        for name, p in alone.named_parameters():
            torch.testing.assert_close(found.tensor("model", name), p.detach(), rtol=0, atol=1e-6, msg=optimiser)
        continued = initialise(Decoder(EXPERT_STACK), 0)
        for name, p in continued.named_parameters():
            found.load_into("model", name, p)
        resumed = Optimiser(continued, TrainerConfig(steps=2, optimiser=optimiser, learning_rate=0.01))
        resumed.restore(found)
        for model, with_it in ((alone, with_state), (continued, resumed)):
            _give_gradients(model, 2)
            with_it.step(0.5)
        assert same(alone, continued, 1e-6), optimiser
