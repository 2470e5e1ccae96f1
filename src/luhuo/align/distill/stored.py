"""A teacher's top-k logits on disk: what stage `teacher-logits` writes and `distill` reads.

`header.json` says whose they are: fingerprint of the tokenizer, temperature, k, vocabulary, shards. A shard
`logits-NNNNN.safetensors` holds some conversations behind one another:

    ids      (targets, k) uint16 or int32   the likeliest tokens at each target, the likeliest first
    values   (targets, k) fp16 or fp32      log p of each at the temperature
    rest     (targets,) fp32                log of the mass of all other tokens; -∞ where k is all of them
    digests  (conversations, 16) uint8      of ids and mask of each conversation
    ends     (conversations,) int64         where its targets end

Conversations are found by what they are, not by their place, so that data may be mixed, shortened or put in another
order; one whose tokens changed is not found, and training does not begin.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from luhuo.core.config import Config, field
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.dialogue.packing import ConversationLoader, TokenStore
from luhuo.files.references import resolve
from luhuo.tokenizer.tokenizer import Tokenizer

HEADER = "header.json"
SCHEMA = 1
SHARDS = "logits-{:05d}.safetensors"


class Header(Config):
    """Whose logits these are."""

    schema_version: int = field(SCHEMA, "Version of this layout.", "本格式的版本。")
    tokenizer: str = field(..., "Fingerprint of the tokenizer.", "分词器指纹。")
    teacher: str = field(..., "Digest of the teacher's weights.", "教师权重的摘要。")
    vocabulary: int = field(..., "Tokens that were compared.", "参与比较的词元数。", ge=1)
    temperature: float = field(..., "By which logits were divided.", "logits 所除的温度。", gt=0)
    k: int = field(..., "Tokens kept at each target.", "每个目标处保存的词元数。", ge=1)
    shards: int = field(..., "Files.", "文件数。", ge=1)
    conversations: int = field(..., "Conversations in all.", "对话总数。", ge=1)
    targets: int = field(..., "Targets in all.", "目标词元总数。", ge=1)


def conversation_digest(ids: np.ndarray, mask: np.ndarray) -> bytes:
    """What a conversation is found by: 16 bytes of ids and mask."""
    whole = hashlib.sha256(len(ids).to_bytes(8, "little"))
    whole.update(np.ascontiguousarray(ids, np.uint32).tobytes())
    whole.update(np.ascontiguousarray(mask, np.uint8).tobytes())
    return whole.digest()[:16]


def target_places(mask: np.ndarray) -> np.ndarray:
    """Where the targets of a conversation stand: its first token is none."""
    places = np.flatnonzero(mask)
    return places[places > 0]


class Stored:
    """Opened logits. Only digests and places are held in memory; the rest is read as it is asked for."""

    def __init__(self, folder: Path, header: Header) -> None:
        self.folder, self.header = folder, header
        self.temperature, self.vocabulary, self.k = header.temperature, header.vocabulary, header.k
        self._places: dict[bytes, tuple[int, int, int]] = {}
        for number in range(header.shards):
            self._index(number)

    def check(self, store: TokenStore) -> None:
        """Raise `LuhuoError` unless all of these conversations are there."""
        missing = [n for n in range(len(store)) if conversation_digest(*store.get(n)) not in self._places]
        if missing:
            raise LuhuoError(
                tr(
                    "The stored logits are of other conversations than the data.",
                    "所存的 logits 与数据不是同一批对话。",
                ),
                expected=tr(f"{len(store):,} conversations of the data", f"数据中的 {len(store):,} 条对话"),
                found=tr(
                    f"{len(missing):,} are not among the {len(self._places):,} stored ones",
                    f"其中 {len(missing):,} 条不在所存的 {len(self._places):,} 条之中",
                ),
                where=self.folder,
                fix=tr(
                    "Store them with the same data, length, overlong, turns and plain, by the student's tokenizer.",
                    "请以相同的 data、length、overlong、turns、plain 及学生的分词器重新保存。",
                ),
            )

    def get(self, ids: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(ids (targets, k), values (targets, k), rest (targets,)) of a conversation that is there."""
        shard, start, end = self._places[conversation_digest(ids, mask)]
        handle = self._open(shard)
        found = [handle.get_slice(name)[start:end] for name in ("ids", "values")]
        return found[0], found[1], handle.get_slice("rest")[start:end]

    def _index(self, number: int) -> None:
        handle = self._open(number)
        digests, ends = handle.get_tensor("digests"), handle.get_tensor("ends")
        start = 0
        for digest, end in zip(digests, ends.tolist(), strict=True):
            self._places[digest.tobytes()] = (number, start, end)
            start = end

    @functools.cache  # noqa: B019 (one object a run; the files stay mapped as long as it lives)
    def _open(self, number: int) -> Any:
        path = self.folder / SHARDS.format(number)
        try:
            return safe_open(path, "numpy").__enter__()
        except (OSError, SafetensorError) as error:
            raise LuhuoError(
                tr("A file of the stored logits cannot be read.", "无法读取所存 logits 的文件。"),
                found=error,
                where=path,
                fix=tr("Run stage teacher-logits again.", "请重新运行 teacher-logits 阶段。"),
            ) from None


def open_stored(reference: str, student: Tokenizer | None) -> Stored:
    """The logits of a folder, for a student with this tokenizer. Raises `LuhuoError` if they are none, or if another
    tokenizer made their ids."""
    folder = resolve(reference).path
    try:
        values = json.loads((folder / HEADER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LuhuoError(
            tr("These are no stored logits.", "这里没有所存的 logits。"),
            expected=f"{HEADER}, {SHARDS.format(0)}",
            found=error,
            where=folder,
            fix=tr("Give the output of stage teacher-logits.", "请给出 teacher-logits 阶段的输出。"),
        ) from None
    header = Header.parse(values, where=str(folder / HEADER))
    mine = None if student is None else student.fingerprint
    if mine != header.tokenizer:
        raise LuhuoError(
            tr(
                "The stored logits are about another tokenizer's tokens than the student's.",
                "所存 logits 对应的分词器与学生的不同。",
            ),
            expected=tr(f"the student's tokenizer, {str(mine)[:16]}", f"学生的分词器 {str(mine)[:16]}"),
            found=header.tokenizer[:16],
            where=folder,
            fix=tr(
                "Go through text: let the teacher answer (luhuo teacher-answers), and train the student on it "
                "(luhuo sft).",
                "改走文本：让教师作答（luhuo teacher-answers），再以其回答训练学生（luhuo sft）。",
            ),
        )
    return Stored(folder, header)


class StoredLoader(ConversationLoader):
    """Batches of `ConversationLoader` with `soft_ids`, `soft_values` (rows, length, k), `soft_rest` (rows, length)."""

    def __init__(self, store: TokenStore, *, stored: Stored, **options: Any) -> None:
        super().__init__(store, **options)
        self._soft = stored

    @classmethod
    def of(cls, stored: Stored) -> Callable[..., ConversationLoader]:
        """What makes such a loader with these logits."""
        return functools.partial(cls, stored=stored)

    def _assemble(self, rows: list[list[int]]) -> dict[str, np.ndarray]:
        batch = super()._assemble(rows)
        shape = (len(rows), batch["ids"].shape[1] - 1)
        batch["soft_ids"] = np.zeros((*shape, self._soft.k), np.int32)
        batch["soft_values"] = np.zeros((*shape, self._soft.k), np.float32)
        batch["soft_rest"] = np.zeros(shape, np.float32)
        for i, row in enumerate(rows):
            at = 0
            for number in row:
                self._put(batch, i, at, *self._store.get(number))
                at += len(self._store.get(number)[0])
        return batch

    def _put(self, batch: dict[str, np.ndarray], row: int, at: int, ids: np.ndarray, mask: np.ndarray) -> None:
        places = at + target_places(mask) - 1  # the state before a token tells it
        tokens, values, rest = self._soft.get(ids, mask)
        batch["soft_ids"][row, places], batch["soft_values"][row, places] = tokens, values
        batch["soft_rest"][row, places] = rest


def shards_of(store: TokenStore, size: int) -> Sequence[range]:
    """The conversations of each shard: consecutive ones, so many that a shard has at least `size` targets."""
    found, start, targets = [], 0, 0
    for number in range(len(store)):
        targets += len(target_places(store.get(number)[1]))
        if targets >= size or number == len(store) - 1:
            found.append(range(start, number + 1))
            start, targets = number + 1, 0
    return found
