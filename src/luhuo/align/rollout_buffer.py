"""The round in progress, kept beside the checkpoints: what weights that are gone have sampled cannot be made again."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from luhuo.core.atomic import atomic_path
from luhuo.core.digest import file_digest
from luhuo.files.safetensors_write import save_file

Arrays = dict[str, np.ndarray]

KEPT = 1
"""Rounds before the newest that are kept in any case: a checkpoint of one may just be written."""
DIGITS = 16
"""Of a file's digest in its name."""


class Buffer:
    """Files `folder/rollouts/round-N-rank-K-DIGEST.safetensors` of the rounds that a checkpoint may go back to.

    `updates`: the most optimiser steps a round has, which says how old the round of a checkpoint can be.
    """

    def __init__(self, folder: Path, rank: int, updates: int) -> None:
        self.checkpoints, self.folder, self.rank, self.updates = folder, folder / "rollouts", rank, updates

    def write(self, number: int, parts: list[Arrays]) -> None:
        """Keep a round's minibatches, and forget the rounds that no checkpoint needs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"{i}.{name}": torch.from_numpy(np.ascontiguousarray(array))
            for i, part in enumerate(parts)
            for name, array in part.items()
        }
        for old in self._files(number):
            old.unlink()
        with atomic_path(self.folder / f"{self._stem(number)}.tmp") as temporary:
            save_file(tensors, temporary)
            name = f"{self._stem(number)}-{file_digest(temporary)[:DIGITS]}.safetensors"
        (self.folder / f"{self._stem(number)}.tmp").rename(self.folder / name)
        self._forget(number)

    def read(self, number: int) -> list[Arrays] | None:
        """A round's minibatches; None if they are not there, or not as they were written."""
        for file in self._files(number):
            if file.stem.endswith(file_digest(file)[:DIGITS]):
                found: dict[int, Arrays] = {}
                for key, array in load_file(file).items():
                    part, _, name = key.partition(".")
                    found.setdefault(int(part), {})[name] = array
                return [found[i] for i in range(len(found))]
        return None

    def _stem(self, number: int) -> str:
        return f"round-{number:09d}-rank-{self.rank}"

    def _files(self, number: int) -> list[Path]:
        return sorted(self.folder.glob(f"{self._stem(number)}-*.safetensors"))

    def _forget(self, newest: int) -> None:
        """A checkpoint of step s lies in round s // updates or, if batches were passed over, in a later one."""
        names = (re.search(r"step-(\d+)", path.name) for path in self.checkpoints.glob("*step-*"))
        steps = [int(found[1]) for found in names if found]
        oldest = min([newest - KEPT, *(step // self.updates for step in steps)])
        for file in self.folder.glob(f"round-*-rank-{self.rank}-*.safetensors"):
            if int(file.name.split("-")[1]) < oldest:
                file.unlink()
