"""One run of stage `teacher-logits`: the teacher reads all conversations once, and its likeliest tokens are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from luhuo.align.distill.divergence import Divergence
from luhuo.align.distill.stored import (
    HEADER,
    SHARDS,
    Header,
    conversation_digest,
    shards_of,
    target_places,
)
from luhuo.align.distill.teacher import Teacher, open_teacher, same_tokens
from luhuo.align.preference.reference import weights_digest
from luhuo.align.sft import Rules, prepare
from luhuo.align.sft_run import announce, data_sets, quarantine_file
from luhuo.align.stages import note_sources
from luhuo.core.artifact import Workspace
from luhuo.core.atomic import atomic_path, write_json
from luhuo.core.digest import value_digest
from luhuo.core.language import tr
from luhuo.core.progress import Progress
from luhuo.dialogue.packing import TokenStore
from luhuo.files.references import resolve
from luhuo.files.safetensors_write import save_file
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.train.cross_entropy import chunk_rows

if TYPE_CHECKING:
    from luhuo.align.distill.stages import TeacherLogitsStage

PASS_TOKENS = 4096
"""Of a pass through the teacher."""
FEW = 65_536
"""A vocabulary up to this is numbered in 16 bits."""


def store_logits(stage: TeacherLogitsStage, out: Workspace, device: torch.device) -> None:
    """Write header and shards into `out.path`; shards that are there already are kept."""
    student = Tokenizer.load(resolve(stage.student, weights=False).path) if stage.student else None
    teacher = open_teacher(stage.teacher, dtype=stage.teacher_dtype, device=str(device))
    tokenizer = student or teacher.model.tokenizer
    same_tokens(teacher.model.tokenizer, tokenizer, stage.teacher)
    assert tokenizer is not None
    sets = data_sets(stage.data)
    note_sources([file for source in sets for file in source.files], out)
    with quarantine_file(out.path, main=True) as quarantine:
        prepared = prepare(
            sets, tokenizer, Rules(stage.length, stage.overlong, stage.turns, stage.plain), quarantine=quarantine
        )
    announce(prepared, tokenizer)
    divergence = Divergence(temperature=stage.distill_temperature)
    k = min(stage.k, teacher.vocabulary)
    weights = weights_digest(teacher.model)
    shards = shards_of(prepared.store, stage.shard_targets)
    with Progress("teacher-logits", len(prepared.store), tr("conversations", "条对话")) as progress:
        for number, members in enumerate(shards):
            path = out.path / SHARDS.format(number)
            digests = [conversation_digest(*prepared.store.get(n)) for n in members]
            whose = value_digest([weights, k, stage.kept, divergence.temperature, b"".join(digests).hex()])
            if not _is_there(path, whose):
                tensors = _shard(teacher, prepared.store, members, k, divergence, stage.kept)
                tensors["digests"] = torch.from_numpy(
                    np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16).copy()
                )
                with atomic_path(path) as temporary:
                    save_file(tensors, temporary, {"whose": whose})
            progress.advance(len(members))
    targets = sum(len(target_places(prepared.store.get(n)[1])) for n in range(len(prepared.store)))
    header = Header(
        tokenizer=tokenizer.fingerprint,
        teacher=weights,
        vocabulary=teacher.vocabulary,
        temperature=divergence.temperature,
        k=k,
        shards=len(shards),
        conversations=len(prepared.store),
        targets=targets,
    )
    write_json(out.path / HEADER, header.model_dump())
    size = sum(file.stat().st_size for file in out.path.glob("*.safetensors"))
    out.results |= {"conversations": len(prepared.store), "targets": targets, "k": k, "bytes": size}
    out.results["rest"] = _mean_rest(out.path, len(shards))


@torch.no_grad()
def top(teacher: Teacher, states: Tensor, k: int, divergence: Divergence) -> tuple[Tensor, Tensor, Tensor]:
    """(ids (n, k), log p (n, k), log of the mass of the others (n,)) of states (n, C), a chunk of logits at a time."""
    size = chunk_rows(teacher.vocabulary, states.device.type)
    found = []
    for start in range(0, len(states), size):
        logits = teacher.model.head(states[start : start + size])
        shares = divergence.log_softmax(logits[:, : teacher.vocabulary])
        values, ids = shares.topk(k)
        # Not 1 - Σ p, which is nothing but rounding where the teacher is sure.
        rest = shares.scatter_(1, ids, -torch.inf).logsumexp(-1)
        found.append((ids, values, rest))
    ids, values, rest = (torch.cat(parts) for parts in zip(*found, strict=True))
    return ids, values, rest


def _shard(
    teacher: Teacher, store: TokenStore, members: Sequence[int], k: int, divergence: Divergence, kept: str
) -> dict[str, Tensor]:
    places = {n: target_places(store.get(n)[1]) for n in members}
    counts = [len(places[n]) for n in members]
    ends = np.cumsum(counts)
    starts = dict(zip(members, (ends - counts).tolist(), strict=True))
    total = int(ends[-1])
    ids = torch.zeros(total, k, dtype=torch.uint16 if teacher.vocabulary <= FEW else torch.int32)
    values = torch.zeros(total, k, dtype=torch.float16 if kept == "fp16" else torch.float32)
    rest = torch.zeros(total)
    for group in _passes(store, members):
        states = _states(teacher, store, group)
        for row, number in enumerate(group):
            here = slice(starts[number], starts[number] + len(places[number]))
            found = top(teacher, states[row, places[number] - 1], k, divergence)
            ids[here], values[here], rest[here] = (
                found[0].to("cpu", ids.dtype),
                found[1].to("cpu", values.dtype),
                found[2].cpu(),
            )
    return {"ids": ids, "values": values, "rest": rest, "ends": torch.from_numpy(ends)}


def _passes(store: TokenStore, members: Sequence[int]) -> Iterator[list[int]]:
    """Conversations of similar length together, the longest first."""
    lengths = {n: len(store.get(n)[0]) for n in members}
    group: list[int] = []
    for number in sorted(members, key=lambda n: (-lengths[n], n)):
        if group and (len(group) + 1) * lengths[group[0]] > PASS_TOKENS:
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def _states(teacher: Teacher, store: TokenStore, group: Sequence[int]) -> Tensor:
    """States (conversations, longest - 1, C) of some conversations, one a row."""
    width = -(-max(len(store.get(n)[0]) for n in group) // 32) * 32 + 1
    ids = torch.zeros(len(group), width, dtype=torch.int64)
    segments = torch.zeros(ids.shape, dtype=torch.int32)
    for row, number in enumerate(group):
        tokens = store.get(number)[0].astype(np.int64)
        ids[row, : len(tokens)], segments[row, : len(tokens)] = torch.from_numpy(tokens), 1
    device = teacher.model.device
    return teacher.states({"ids": ids.to(device), "segments": segments.to(device)})


def _is_there(path: Path, whose: str) -> bool:
    """Whether a shard was written before, of these conversations by this teacher."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, "numpy") as handle:
            return (handle.metadata() or {}).get("whose") == whose
    except (OSError, SafetensorError):
        return False


def _mean_rest(folder: Path, shards: int) -> float:
    """Mean mass that is not among the k likeliest tokens."""
    total, count = 0.0, 0
    for number in range(shards):
        with safe_open(folder / SHARDS.format(number), "numpy") as handle:
            rest = np.exp(handle.get_tensor("rest"))
        total, count = total + float(rest.sum()), count + len(rest)
    return total / max(1, count)
