"""Checkpoints: safetensors and JSON, written beside the old one, swapped in whole, digest checked when read."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from luhuo.core.atomic import write_json
from luhuo.core.digest import file_digest
from luhuo.core.language import tr
from luhuo.core.progress import say

SCHEMA = 1
KEEP = 2


@dataclass
class Checkpoint:
    """Everything a run needs to go on as if it had not been cut."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    """By part: "model", "optimiser", "random"."""
    values: dict[str, Any]
    """JSON values: loader state, counters."""


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Write `folder/step-N` atomically and keep the last two."""
    final = folder / f"step-{checkpoint.step:09d}"
    partial = folder / f".{final.name}.partial"
    for leftover in (partial, final):
        if leftover.exists():
            shutil.rmtree(leftover)
    partial.mkdir(parents=True)
    digests = {}
    for part, tensors in checkpoint.tensors.items():
        file = partial / f"{part}.safetensors"
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, file)
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
        digests[file.name] = file_digest(file)
    index = {"schema": SCHEMA, "step": checkpoint.step, "files": digests, "values": checkpoint.values}
    write_json(partial / "index.json", index)
    partial.rename(final)
    for old in _steps(folder)[:-KEEP]:
        shutil.rmtree(old)


def read_last(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; damaged ones are named and passed over. None if there is none."""
    for path in reversed(_steps(folder)):
        try:
            return _read(path)
        except (OSError, ValueError, KeyError) as error:
            say(
                tr(
                    f"Checkpoint {path.name} is damaged ({error}); trying the one before.",
                    f"检查点 {path.name} 已损坏（{error}），改用上一个。",
                )
            )
    return None


def _steps(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _read(path: Path) -> Checkpoint:
    index = json.loads((path / "index.json").read_text(encoding="utf-8"))
    if index["schema"] > SCHEMA:
        raise ValueError(f"schema {index['schema']} > {SCHEMA}")
    tensors = {}
    for name, digest in index["files"].items():
        if file_digest(path / name) != digest:
            raise ValueError(name)
        tensors[name.removesuffix(".safetensors")] = load_file(path / name)
    return Checkpoint(index["step"], tensors, index["values"])


def remove(folder: Path) -> None:
    """Delete all checkpoints."""
    shutil.rmtree(folder, ignore_errors=True)
