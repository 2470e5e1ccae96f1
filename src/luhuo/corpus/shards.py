"""Tokenised shards: tokens (`NNNNN.bin`), document ends (`.idx`), document groups (`.grp`) and `header.json`.

One folder a split. Tokens are little-endian uint16, or uint32 for vocabularies over 65,536; ends are uint64 counts of
tokens; groups are uint16 places in the header's list `groups` of {"source", "lang"} (shards of earlier versions have
none). The header carries sizes and digests, so that a cut-off or damaged file is noticed before anything is trained
on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from luhuo.core import digest
from luhuo.core.artifact import Workspace
from luhuo.core.atomic import write_json
from luhuo.core.config import unknown_key
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import Progress
from luhuo.corpus.documents import SPLITS, read_documents
from luhuo.corpus.split import place
from luhuo.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from luhuo.corpus.stages import ShardsStage

SCHEMA = 1
BATCH_CHARS = 500_000
"""Text encoded at once; bounds memory."""


def write_shards(stage: ShardsStage, out: Workspace) -> None:
    """Tokenise all splits of a corpus. Raises `LuhuoError` if a weight names a source that is not there."""
    tokenizer = Tokenizer.load(stage.tokenizer)
    known: set[str] = set()
    for split in SPLITS:
        writer = ShardWriter(out.path / split, tokenizer, stage.shard_mb * 2**20)
        weights = stage.weights if split == "train" else {}
        with Progress(tr(f"tokenise {split}", f"分词 {split}"), unit="MB") as progress:
            for batch in _batches(read_documents(stage.corpus, split)):
                known.update(d["source"] for d in batch)
                encoded = tokenizer.encode_batch([d["text"] for d in batch])
                for document, ids in zip(batch, encoded, strict=True):
                    for _ in range(repeats(document["id"], weights.get(document["source"], 1.0), stage.seed)):
                        writer.add(document, [*ids, tokenizer.eos_id])
                    progress.advance(len(document["text"].encode()) / 1e6)
        header = writer.close()
        out.results[f"tokens.{split}"] = header["tokens"]
        for name, counts in header["sources"].items():
            out.results[f"source.{name}.tokens.{split}"] = counts["tokens"]
    for name in stage.weights:
        if name not in known:
            raise unknown_key(name, sorted(known), "weights", tr("source", "来源"))


def repeats(document: str, weight: float, seed: int) -> int:
    """How often a document is written: the whole part of the weight, and once more for the share left over."""
    whole = int(weight)
    return whole + (place(f"repeat/{document}", seed) < weight - whole)


def _batches(documents: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    chars = 0
    for document in documents:
        batch.append(document)
        chars += len(document["text"])
        if chars >= BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


class ShardWriter:
    """Writes documents of tokens, starting a new shard when one is full."""

    def __init__(self, folder: Path, tokenizer: Tokenizer, shard_bytes: int) -> None:
        self.folder, self.tokenizer, self.shard_bytes = folder, tokenizer, shard_bytes
        self.dtype = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")
        folder.mkdir(parents=True, exist_ok=True)
        self._shards: list[dict[str, Any]] = []
        self._sources: dict[str, dict[str, Any]] = {}
        self._bin: Any = None
        self._ends: list[int] = []
        self._groups: dict[tuple[str, str], int] = {}
        self._group: list[int] = []
        self._tokens = 0

    def add(self, document: dict[str, Any], ids: list[int]) -> None:
        """Append one document, its end-of-text token included."""
        if self._bin is None:
            self._bin = (self.folder / f"{len(self._shards):05d}.bin").open("wb")
        self._bin.write(np.asarray(ids, self.dtype).tobytes())
        self._tokens += len(ids)
        self._ends.append(self._tokens)
        self._group.append(self._groups.setdefault((document["source"], document["lang"]), len(self._groups)))
        counts = self._sources.setdefault(
            document["source"], {"documents": 0, "tokens": 0, "bytes": 0, "chars": 0, "languages": {}}
        )
        text = document["text"]
        counts["documents"] += 1
        counts["tokens"] += len(ids)
        counts["bytes"] += len(text.encode())
        counts["chars"] += len(text)
        languages = counts["languages"]
        languages[document["lang"]] = languages.get(document["lang"], 0) + 1
        if self._tokens * self.dtype.itemsize >= self.shard_bytes:
            self._finish_shard()

    def close(self) -> dict[str, Any]:
        """Finish the last shard and write the header."""
        self._finish_shard()
        header = {
            "schema": SCHEMA,
            "dtype": self.dtype.name,
            "vocab_size": self.tokenizer.vocab_size,
            "tokenizer": self.tokenizer.fingerprint,
            "eos_id": self.tokenizer.eos_id,
            "tokens": sum(s["tokens"] for s in self._shards),
            "documents": sum(s["documents"] for s in self._shards),
            "sources": self._sources,
            "groups": [{"source": source, "lang": lang} for source, lang in self._groups],
            "shards": self._shards,
        }
        write_json(self.folder / "header.json", header)
        return header

    def _finish_shard(self) -> None:
        if self._bin is None:
            return
        self._bin.close()
        name = f"{len(self._shards):05d}"
        (self.folder / f"{name}.idx").write_bytes(np.asarray(self._ends, "<u8").tobytes())
        (self.folder / f"{name}.grp").write_bytes(np.asarray(self._group, "<u2").tobytes())
        files = {}
        for kind in ("bin", "idx", "grp"):
            file = self.folder / f"{name}.{kind}"
            files[kind] = {"bytes": file.stat().st_size, "sha256": digest.file_digest(file)}
        self._shards.append({"name": name, "tokens": self._tokens, "documents": len(self._ends), **files})
        self._bin, self._ends, self._group, self._tokens = None, [], [], 0


def read_header(folder: str | Path) -> dict[str, Any]:
    """The header of one split. Raises `LuhuoError` if there is none or it is from a newer version."""
    file = Path(folder) / "header.json"
    if not file.is_file():
        raise LuhuoError(
            tr("There are no shards here.", "这里没有分片。"),
            expected=tr("a folder such as shards/train with header.json", "含 header.json 的目录，如 shards/train"),
            where=folder,
        )
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LuhuoError(
            tr("A shard is damaged.", "分片已损坏。"),
            expected="JSON",
            found=error,
            where=file,
            fix=tr("Delete this artifact and run the recipe again.", "删除该产物后重新运行配方。"),
        ) from error
    if header.get("schema", 0) > SCHEMA:
        raise LuhuoError(
            tr("The shards are from a newer version of Luhuo.", "这些分片来自更新版本的炉火。"),
            expected=f"schema <= {SCHEMA}",
            found=header["schema"],
            where=file,
        )
    return header


def open_shards(folder: str | Path, *, verify: bool = True) -> list[tuple[np.ndarray, np.ndarray]]:
    """(tokens, document ends) of each shard, memory-mapped, after their sizes and digests were checked."""
    root = Path(folder)
    header = read_header(root)
    opened = []
    for shard in header["shards"]:
        for kind in ("bin", "idx"):
            _check(root / f"{shard['name']}.{kind}", shard[kind], verify)
        tokens = np.memmap(root / f"{shard['name']}.bin", np.dtype(header["dtype"]).newbyteorder("<"), "r")
        ends = np.memmap(root / f"{shard['name']}.idx", "<u8", "r")
        opened.append((tokens, ends))
    return opened


def document_groups(folder: str | Path) -> np.ndarray | None:
    """For each document of a split, in order, its place in the header's `groups`; None for shards without them."""
    root = Path(folder)
    header = read_header(root)
    if "groups" not in header:
        return None
    parts = [np.zeros(0, np.int32)]
    for shard in header["shards"]:
        file = root / f"{shard['name']}.grp"
        _check(file, shard["grp"], verify=True)
        parts.append(np.fromfile(file, "<u2").astype(np.int32))
    return np.concatenate(parts)


def document_sizes(folder: str | Path) -> np.ndarray:
    """Tokens of each document of a split, in order. Raises `LuhuoError` if a file is damaged."""
    ends = [np.asarray(stops, np.int64) for _, stops in open_shards(folder, verify=False)]
    return np.concatenate([np.zeros(0, np.int64), *(np.diff(stops, prepend=0) for stops in ends)])


def _check(file: Path, expected: dict[str, Any], verify: bool) -> None:
    found = f"{file.stat().st_size:,} bytes" if file.is_file() else tr("no such file", "文件不存在")
    if file.is_file() and file.stat().st_size == expected["bytes"]:
        sha = digest.file_digest(file) if verify else expected["sha256"]
        if sha == expected["sha256"]:
            return
        found += f", sha256 {sha[:16]}…"
    raise LuhuoError(
        tr("A shard is damaged.", "分片已损坏。"),
        expected=f"{expected['bytes']:,} bytes, sha256 {expected['sha256'][:16]}…",
        found=found,
        where=file,
        fix=tr("Delete this artifact and run the recipe again.", "删除该产物后重新运行配方。"),
    )
