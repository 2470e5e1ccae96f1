"""Checkpoints: safetensors and JSON, written beside the old one, swapped in whole, digest checked when read.

A tensor may be kept in pieces (each rank writes the part it holds); the index knows where each piece belongs, so a run
continues with any number of processes. No message passes between ranks for it: each writes its files and a small JSON
of what is in them, and rank 0 waits for all of these before it gives the checkpoint its name.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from luhuo.core.atomic import write_json
from luhuo.core.digest import file_digest
from luhuo.core.errors import RunFailed
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.train.pieces import WHOLE, Cut, Piece, held

SCHEMA = 2
PATIENCE_S = 1800.0
"""How long rank 0 waits for the other ranks' files."""

Parts = Mapping[str, Mapping[str, Tensor]]
"""Tensors by part ("model", "optimiser", "random") and name."""

Cuts = Mapping[str, Cut]
"""How parameters are cut, by name. What belongs to one is called `NAME:KIND`, and is cut alike."""

Boxes = Mapping[str, Mapping[str, Sequence[Piece]]]
"""What this rank writes, by part and name."""


class Writer:
    """Writes `folder/step-N` and keeps the last few. In the background: only the copy of the tensors is waited for."""

    def __init__(
        self,
        folder: Path,
        *,
        rank: int = 0,
        ranks: int = 1,
        cuts: Cuts | None = None,
        keep: int = 2,
        background: bool = True,
    ) -> None:
        self.folder, self.rank, self.ranks, self.keep, self.background = folder, rank, ranks, keep, background
        self.cuts = cuts or {}
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def write(self, step: int, parts: Parts, values: dict[str, Any], name: str = "") -> None:
        """Write a checkpoint, by default named after its step. With several ranks, all of them call this.

        Raises what went wrong with the one before, if anything did: a full disk stops the run, and the last whole
        checkpoint stays.
        """
        self.wait()
        pieces = {
            part: {
                key: held(tensor, _cut(self.cuts, key))
                for key, tensor in tensors.items()
                if part == "random" or self._mine(key, tensor)
            }
            for part, tensors in parts.items()
        }
        final = self.folder / (name or f"step-{step:09d}")
        if self.background:
            kept = {
                part: {key: [_copied(piece) for piece in found] for key, found in tensors.items()}
                for part, tensors in pieces.items()
            }
            self._thread = threading.Thread(target=self._guarded, args=(final, step, kept, values), daemon=False)
            self._thread.start()
        else:
            self._write(final, step, pieces, values)

    def _mine(self, key: str, tensor: Tensor) -> bool:
        """Whether this rank writes what it holds of a tensor: the first one a whole tensor or a copy of a part."""
        return _cut(self.cuts, key).first if isinstance(tensor, DTensor) else self.rank == 0

    def wait(self) -> None:
        """Wait for the checkpoint being written; raises what went wrong with it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _guarded(self, *arguments: Any) -> None:
        try:
            self._write(*arguments)
        except BaseException as error:  # it belongs to the training thread, which asks for it in `wait`
            self._error = error

    def _write(self, final: Path, step: int, parts: Boxes, values: dict[str, Any]) -> None:
        partial = final.with_name(f".{final.name}.partial")
        if self.rank == 0 and self.ranks == 1 and partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True, exist_ok=True)
        suffix = "" if self.ranks == 1 else f"-{self.rank + 1:05d}-of-{self.ranks:05d}"
        try:
            mine = _write_parts(partial, suffix, parts)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        if self.ranks > 1:
            write_json(partial / f"rank{suffix}.json", {"step": step, **mine})
        if self.rank:
            return
        everything = [mine] if self.ranks == 1 else _collect(partial, step, self.ranks)
        files, tensors = _merged(everything)
        index = {"schema": SCHEMA, "step": step, "files": files, "tensors": tensors, "values": values}
        write_json(partial / "index.json", index, indent=None)
        old = final.with_name(f".{final.name}.old")
        if final.exists():
            final.rename(old)
        partial.rename(final)
        shutil.rmtree(old, ignore_errors=True)
        for expired in _steps(self.folder)[: -self.keep]:
            shutil.rmtree(expired)


def _copied(piece: Piece) -> Piece:
    return Piece(piece.local.to("cpu", copy=True), piece.shape, piece.start)


def _cut(cuts: Cuts, key: str) -> Cut:
    return cuts.get(key, cuts.get(key.rsplit(":", 1)[0], WHOLE))


def _write_parts(partial: Path, suffix: str, parts: Boxes) -> dict[str, Any]:
    """Write one file a part; what is in them, for the index."""
    files: dict[str, str] = {}
    tensors: dict[str, dict[str, Any]] = {}
    for part, pieces in parts.items():
        path = partial / f"{part}{suffix}.safetensors"
        boxes = {_label(key, i): piece for key, found in pieces.items() for i, piece in enumerate(found)}
        save_file({label: piece.local.cpu().contiguous() for label, piece in boxes.items()}, path)
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
        files[path.name] = file_digest(path)
        tensors[part] = {
            key: {
                "shape": list(found[0].shape),
                "pieces": [
                    {"file": path.name, "start": list(piece.start), "label": _label(key, i)}
                    for i, piece in enumerate(found)
                ],
            }
            for key, found in pieces.items()
            if found
        }
    return {"files": files, "tensors": tensors}


def _label(key: str, number: int) -> str:
    """What a box is called in its file: a rank may have several of one tensor."""
    return f"{key}#{number}" if number else key


def _collect(partial: Path, step: int, ranks: int) -> list[dict[str, Any]]:
    """What every rank wrote, as soon as it is there."""
    deadline = time.monotonic() + PATIENCE_S
    found: dict[int, dict[str, Any]] = {}
    while len(found) < ranks:
        for rank in range(ranks):
            path = partial / f"rank-{rank + 1:05d}-of-{ranks:05d}.json"
            if rank not in found and path.is_file():
                told = json.loads(path.read_text(encoding="utf-8"))
                if told["step"] == step:
                    found[rank] = told
        if time.monotonic() > deadline:
            late = ", ".join(str(rank) for rank in range(ranks) if rank not in found)
            raise RunFailed(
                tr("Some ranks did not write their part of the checkpoint.", "有进程没有写出它那部分检查点。"),
                found=f"rank {late}",
                where=partial,
                fix=tr("All ranks need the same file system.", "所有进程须使用同一文件系统。"),
            )
        if len(found) < ranks:
            time.sleep(0.05)
    return [found[rank] for rank in range(ranks)]


def _merged(everything: list[dict[str, Any]]) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    files: dict[str, str] = {}
    tensors: dict[str, dict[str, Any]] = {}
    for told in everything:
        files |= told["files"]
        for part, entries in told["tensors"].items():
            for key, entry in entries.items():
                known = tensors.setdefault(part, {}).setdefault(key, {"shape": entry["shape"], "pieces": []})
                known["pieces"] += entry["pieces"]
    return files, tensors


class Saved:
    """A checkpoint on disk whose files have the digests of its index."""

    def __init__(self, path: Path) -> None:
        self.cuts: Cuts = {}
        """How the tensors to load into are cut, where they are."""
        index = json.loads((path / "index.json").read_text(encoding="utf-8"))
        if index["schema"] != SCHEMA:
            raise ValueError(f"schema {index['schema']}, not {SCHEMA}")
        for name, digest in index["files"].items():
            if file_digest(path / name) != digest:
                raise ValueError(name)
        self.path, self.step, self.values = path, int(index["step"]), index["values"]
        self._tensors = index["tensors"]

    def names(self, part: str) -> list[str]:
        """Names of a part's tensors."""
        return list(self._tensors.get(part, {}))

    def tensor(self, part: str, name: str) -> Tensor:
        """A whole tensor, put together from its pieces."""
        entry = self._tensors[part][name]
        whole: Tensor | None = None
        for piece in entry["pieces"]:
            with safe_open(self.path / piece["file"], "pt") as handle:
                local = handle.get_tensor(piece.get("label", name))
            if list(local.shape) == entry["shape"]:
                return local
            if whole is None:
                whole = torch.empty(entry["shape"], dtype=local.dtype)
            whole[Piece(local, tuple(entry["shape"]), tuple(piece["start"])).place] = local
        assert whole is not None, f"{name} has no piece"
        return whole

    def load_into(self, part: str, name: str, target: Tensor) -> None:
        """Copy a tensor into `target`, or into the piece of it that this rank holds."""
        whole = self.tensor(part, name)
        with torch.no_grad():
            for mine in held(target, _cut(self.cuts, name)):
                mine.local.copy_(whole[mine.place])


def read_last(folder: Path) -> Saved | None:
    """The newest checkpoint that is whole; damaged ones are named and passed over. None if there is none."""
    for path in reversed(_steps(folder)):
        try:
            return Saved(path)
        except (OSError, ValueError, KeyError) as error:
            say(
                tr(
                    f"Checkpoint {path.name} is damaged ({error}); trying the one before.",
                    f"检查点 {path.name} 已损坏（{error}），改用上一个。",
                )
            )
    return None


def read_named(folder: Path, name: str) -> Saved | None:
    """The checkpoint of this name, None if there is none or it is damaged."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        return Saved(folder / name)
    return None


def _steps(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def remove(folder: Path) -> None:
    """Delete all checkpoints."""
    shutil.rmtree(folder, ignore_errors=True)
