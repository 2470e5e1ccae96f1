"""What the model said before training: computed once, ahead of it, and kept; or live, by the same model.

Ahead of training the policy is its own reference, so no second model is needed, with adapters or without. The numbers
depend on weights and tokens alone: they are kept beside the checkpoints under the digest of both, in pieces, so that
a run that is cut off goes on where it was.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from luhuo.adapter.attach import attached
from luhuo.align.log_probs import token_log_probs
from luhuo.align.policy import reference
from luhuo.align.preference.objective import AsBefore, answer_sums
from luhuo.align.preference.units import Units
from luhuo.core.atomic import atomic_path
from luhuo.core.language import tr
from luhuo.core.progress import Progress
from luhuo.dialogue.packing import TokenStore
from luhuo.model.decoder import Decoder
from luhuo.train.ranks import Ranks

PIECE = 64
"""Passes through the model between two writings."""
PASS = 4096
"""Tokens of a pass: few enough for any machine that can train at all."""


def add_references(model: Decoder, units: Units, folder: Path, weights: str, ranks: Ranks) -> None:
    """Gives the units their `reference`, and that of each further plane: log π_ref of each sequence's answer.

    All processes call this together, before the first step, with the model as it is before training; `weights` is its
    `weights_digest`, taken before its parameters were divided among them.
    """
    for prefix, store in {"": units.store, **units.planes}.items():
        units.numbers[f"{prefix}reference"] = answer_log_probs(model, store, folder, weights, ranks)


@torch.no_grad()
def answer_log_probs(model: Decoder, store: TokenStore, folder: Path, weights: str, ranks: Ranks) -> np.ndarray:
    """Log-probability of each sequence's answer: (sequences,) fp32. Continues what lies in `folder`."""
    model.eval()
    passes = list(_passes(store.lengths()))
    found = torch.zeros(len(store), dtype=torch.float32)
    name = f"reference-{_digest(model, store, weights)}"
    title = tr("reference log-probabilities", "参考模型的对数概率")
    with Progress(title, len(passes), tr("passes", "批")) as progress:
        for start in range(0, len(passes), PIECE):
            group = passes[start : start + PIECE]
            file = folder / f"{name}-{start:07d}.safetensors"
            numbers = [number for one in group for number in one]
            if ranks.any(ranks.main and file.is_file())[0]:
                # What the first process reads is everybody's: the others add nothing to it.
                values = load_file(file)["log_probs"] if ranks.main else torch.zeros(len(numbers))
                values = ranks.sum(values.to(model.device)).cpu()
            else:
                values = _piece(model, store, group, ranks)[numbers]
                if ranks.main:
                    _write(file, values)
            found[numbers] = values
            progress.advance(len(group))
    return found.numpy()


def live(before: Decoder | None) -> AsBefore:
    """The reference computed in each step: by a frozen copy, or by the model itself with its adapter switched off."""

    @contextmanager
    def as_before(model: Decoder) -> Iterator[Decoder]:
        if before is not None:
            yield before.compute_in(model.dtype).eval()
            return
        with reference(model):
            yield model

    return as_before


def live_of(model: Decoder) -> AsBefore:
    """`live`, with a copy of the model as it is now where there is no adapter that could be switched off."""
    return live(copy.deepcopy(model).requires_grad_(False) if attached(model) is None else None)


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, by name."""
    whole = hashlib.sha256()
    for name, tensor in sorted([*model.named_parameters(), *model.named_buffers()]):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return whole.hexdigest()


def _piece(model: Decoder, store: TokenStore, group: Sequence[list[int]], ranks: Ranks) -> Tensor:
    """Log-probabilities of the sequences of some passes, zero elsewhere: (sequences,). The processes share them."""
    mine = torch.zeros(len(store), device=model.device)
    for place in range(-(-len(group) // ranks.count)):
        at = place * ranks.count + ranks.rank
        # Equally many passes in each process, since with sharded weights they need each other.
        sums = _score(model, store, group[min(at, len(group) - 1)])
        if at < len(group):
            mine[group[at]] = sums
    return ranks.sum(mine).cpu()


def _digest(model: Decoder, store: TokenStore, weights: str) -> str:
    whole = hashlib.sha256(f"{weights} {model.dtype}".encode())
    for number in range(len(store)):
        ids, mask = store.get(number)[:2]
        whole.update(len(ids).to_bytes(4, "little") + ids.tobytes() + mask.tobytes())
    return whole.hexdigest()[:16]


def _passes(lengths: np.ndarray) -> Iterator[list[int]]:
    """Sequences of similar length together, the longest first, so that memory runs out at once or never."""
    group: list[int] = []
    for number in np.argsort(-lengths, kind="stable").tolist():
        if group and (len(group) + 1) * int(lengths[group[0]]) > PASS:
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def _score(model: Decoder, store: TokenStore, numbers: Sequence[int]) -> Tensor:
    rows = [store.get(number)[:2] for number in numbers]
    width = -(-max(len(ids) for ids, _ in rows) // 32) * 32 + 1  # few shapes
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    segments, mask = torch.zeros(ids.shape, dtype=torch.int32), torch.zeros(ids.shape, dtype=torch.int32)
    for i, (tokens, targets) in enumerate(rows):
        count = len(tokens)
        ids[i, :count], segments[i, :count] = torch.from_numpy(tokens.astype(np.int64)), 1
        mask[i, :count] = torch.from_numpy(targets.astype(np.int32))
    batch = {"ids": ids.to(model.device), "segments": segments.to(model.device), "mask": mask.to(model.device)}
    return answer_sums(token_log_probs(model, batch), batch)[:, 0]


def _write(file: Path, values: Tensor) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary:
        save_file({"log_probs": values}, temporary)
