"""Checkpoints: safetensors and JSON, written beside the old one, swapped in whole, digests checked when read.

A tensor may be kept in pieces (each rank writes the part it holds); the index knows where each piece belongs, so a run
continues with any number of processes. No message passes between ranks for it: each writes its files and a small JSON
of what is in them, and rank 0 waits for all of these before it gives the checkpoint its name.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.distributed.tensor import DTensor

from luhuo.core.atomic import flush_folder, write_json
from luhuo.core.digest import file_digest, value_digest
from luhuo.core.errors import RunFailed, from_os_error
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.files.safetensors_write import save_file
from luhuo.train.pieces import WHOLE, Cut, Piece, held

SCHEMA = 3
BEST = "best"
"""Name of the checkpoint of the best score."""
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
        self._over = threading.Event()

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
        self.check()

    def check(self) -> None:
        """Raise what went wrong with a checkpoint written in the background, without waiting for it."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def give_up(self) -> None:
        """Wait no longer for the pieces of other ranks: one of them is gone."""
        self._over.set()

    def _guarded(self, *arguments: Any) -> None:
        try:
            self._write(*arguments)
        except BaseException as error:  # it belongs to the training thread, which asks for it in `wait`
            self._error = error

    def _write(self, final: Path, step: int, parts: Boxes, values: dict[str, Any]) -> None:
        partial = _partial(final)
        partial.mkdir(exist_ok=True)
        try:
            self._fill(partial, step, parts, values)
            if self.rank == 0:
                self._name(partial, final)
        except OSError as error:
            if self.ranks == 1:
                shutil.rmtree(partial, ignore_errors=True)
            raise from_os_error(error) or error from error

    def _fill(self, partial: Path, step: int, parts: Boxes, values: dict[str, Any]) -> None:
        """Write this rank's files; the first rank also the index, as soon as all have written theirs."""
        suffix = "" if self.ranks == 1 else f"-{self.rank + 1:05d}-of-{self.ranks:05d}"
        mine = _write_parts(partial, suffix, parts)
        if self.ranks > 1:
            write_json(partial / f"rank{suffix}.json", {"step": step, **mine})
        if self.rank:
            return
        everything = [mine] if self.ranks == 1 else _collect(partial, step, self.ranks, self._over)
        files, tensors = _merged(everything)
        index = {"schema": SCHEMA, "step": step, "files": files, "tensors": tensors, "values": values}
        index = json.loads(json.dumps(index))  # as it will be read: what the digest is taken of
        write_json(partial / "index.json", {"digest": value_digest(index), **index}, indent=None)

    def _name(self, partial: Path, final: Path) -> None:
        """Give a checkpoint its name, then remove what it replaces: a kill at any moment leaves a whole one."""
        flush_folder(partial)
        old = _old(final)
        if final.exists():
            final.rename(old)
        partial.rename(final)
        flush_folder(self.folder)
        shutil.rmtree(old, ignore_errors=True)
        for expired in _steps(self.folder)[: -self.keep]:
            shutil.rmtree(expired)


def _partial(final: Path) -> Path:
    return final.with_name(f".{final.name}.partial")


def _old(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")


def tidy(folder: Path) -> None:
    """Make the folder ready for a run: finish or undo what a kill cut off. Only one process calls this, before others
    write or read: what a rank of the former run left in a half-written checkpoint must not count for a new one."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob(".*.old"):
        final = folder / old.name.removeprefix(".").removesuffix(".old")
        if final.exists():
            shutil.rmtree(old)
        else:
            old.rename(final)
    for partial in folder.glob(".*.partial"):
        shutil.rmtree(partial)


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


def _collect(partial: Path, step: int, ranks: int, over: threading.Event) -> list[dict[str, Any]]:
    """What every rank wrote, as soon as it is there. Raises `RunFailed` when it takes too long, or `over` is set."""
    deadline = time.monotonic() + PATIENCE_S
    found: dict[int, dict[str, Any]] = {}
    while len(found) < ranks:
        for rank in range(ranks):
            path = partial / f"rank-{rank + 1:05d}-of-{ranks:05d}.json"
            if rank not in found and path.is_file():
                told = json.loads(path.read_text(encoding="utf-8"))
                if told["step"] == step:
                    found[rank] = told
        if time.monotonic() > deadline or (over.is_set() and len(found) < ranks):
            late = ", ".join(str(rank) for rank in range(ranks) if rank not in found)
            raise RunFailed(
                tr("Some ranks did not write their part of the checkpoint.", "有进程没有写出它那部分检查点。"),
                found=f"rank {late}",
                where=partial,
                fix=tr("All ranks need the same file system.", "所有进程须使用同一文件系统。"),
            )
        if len(found) < ranks:
            over.wait(0.05)
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


class Damaged(Exception):
    """A file of a checkpoint is not as it was written."""

    def __init__(self, file: Path, why: str) -> None:
        super().__init__(f"{file}: {why}")


def _read_index(file: Path) -> dict[str, Any]:
    """The index of a checkpoint, which has the digest that it tells of itself."""
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
        digest = index.pop("digest")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(file, f"{type(error).__name__}: {error}") from error
    if value_digest(index) != digest:
        raise Damaged(file, tr("its checksum differs", "校验和不符"))
    if index["schema"] != SCHEMA:
        raise Damaged(file, tr(f"schema {index['schema']}, not {SCHEMA}", f"格式 {index['schema']}，应为 {SCHEMA}"))
    return index


class Saved:
    """A checkpoint on disk whose files have the digests of its index. Raises `Damaged`."""

    def __init__(self, path: Path) -> None:
        self.cuts: Cuts = {}
        """How the tensors to load into are cut, where they are."""
        index = _read_index(path / "index.json")
        for name, digest in index["files"].items():
            file = path / name
            if not file.is_file():
                raise Damaged(file, tr("it is missing", "文件缺失"))
            if file_digest(file) != digest:
                raise Damaged(file, tr("its checksum differs", "校验和不符"))
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
    """The newest checkpoint that is whole; damaged ones are named and passed over. None if there is none at all.

    Raises `RunFailed` if there are some, and all are damaged: to begin anew is not ours to decide.
    """
    found = _steps(folder)
    damaged: Damaged | None = None
    for path in reversed(found):
        try:
            return Saved(path)
        except Damaged as error:
            damaged = error
            say(
                tr(
                    f"Checkpoint {path.name} is damaged ({error}); trying the one before.",
                    f"检查点 {path.name} 已损坏（{error}），改用上一个。",
                )
            )
    if damaged is None:
        return None
    raise RunFailed(
        tr("No checkpoint of this run can be read.", "本次运行的检查点均无法读取。"),
        found=damaged,
        where=folder,
        fix=tr(
            f"Restore it from a copy, or delete {folder} to begin again from the first step.",
            f"请从备份恢复，或删除 {folder} 后从第一步重新开始。",
        ),
    )


def read_best(folder: Path) -> Saved | None:
    """The checkpoint of the best score; None if there is none. Raises `RunFailed` if it is damaged."""
    path = folder / BEST
    if not path.exists():
        return None
    try:
        return Saved(path)
    except Damaged as error:
        raise RunFailed(
            tr("The weights of the best score are damaged.", "最佳指标对应的权重已损坏。"),
            found=error,
            where=path,
            fix=tr(
                f"Delete {path} and run the same command again: the last weights become the result.",
                f"删除 {path} 后重新运行同一命令：以最后的权重作为结果。",
            ),
        ) from error


def _steps(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def remove(folder: Path) -> None:
    """Delete all checkpoints."""
    shutil.rmtree(folder, ignore_errors=True)
