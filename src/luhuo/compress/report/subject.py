"""The model that is to be compressed: whether it can be, and what that takes in memory and on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from luhuo.compress.report.candidates import Candidate
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

PROCESS = 500_000_000
"""Bytes of a process with everything imported, and of what is computed at once."""
SCALES = 1.15
"""Bytes of a rounded matrix over those of its integers: scales, padding, and what stays as it is."""


@dataclass(frozen=True)
class Subject:
    """A plain decoder's directory."""

    path: Path
    parameters: int
    outside: int
    """Of these, what stands outside of the blocks: embedding and output matrix."""
    sizes: dict[str, int]
    """By the names of the config's fields."""
    tied: bool
    """Whether the embedding is the output matrix."""
    context: int
    hidden: int
    stored: int
    """Bytes of its files."""
    tokens: int
    """Scored when a model is measured."""

    def memory(self) -> int:
        """Bytes at the most: the original in fp32, with its states; or the original as it is used, beside a
        compressed model that is as large as it (a pruned one)."""
        states = 4 * self.tokens * self.hidden
        return max(4 * self.parameters + states, 4 * self.outside + states + 2 * 2 * self.parameters) + PROCESS

    def check_memory(self) -> None:
        """Raise `LuhuoError` if there is not as much."""
        from luhuo.train.plan.machine import available_memory

        needed, free = self.memory(), available_memory()
        if needed > free:
            raise LuhuoError(
                tr("There is not enough memory to measure this model.", "内存不足，无法测量该模型。"),
                expected=tr(f"{needed / 1e9:.1f} GB free", f"可用 {needed / 1e9:.1f} GB"),
                found=f"{free / 1e9:.1f} GB",
                where=self.path,
                fix=tr(
                    "Measure fewer tokens (--tokens), or use a larger machine. Compressing alone takes less: "
                    "luhuo quantize goes block by block.",
                    "减少测量词元（--tokens），或换更大的机器。仅压缩所需更少：luhuo quantize 逐块进行。",
                ),
            )

    def disk_of(self, candidate: Candidate) -> int:
        """Bytes on the disk while a candidate is made: its blocks as parts, and then the directory."""
        total = 0
        for step in candidate.steps:
            bits = step.values.get("bits", step.values.get("average_bits"))
            if step.stage == "quantize" and bits is not None:
                rounded = (self.parameters - self.outside) * max(bits, 4) / 8
                total += int(SCALES * 2 * rounded + 4 * self.outside)
            else:
                total += 2 * self.stored
        return total

    def check_disk(self, out: Path, candidates: Sequence[Candidate]) -> None:
        """Raise `LuhuoError` if not even the smallest candidate has room. Others are skipped when it is their turn."""
        out.mkdir(parents=True, exist_ok=True)
        needed = min((self.disk_of(one) for one in candidates), default=0)
        free = shutil.disk_usage(out).free
        if needed > free:
            raise LuhuoError(
                tr("There is not enough disk for any of the candidates.", "磁盘空间不足以容纳任何候选。"),
                expected=tr(f"{needed / 1e9:.2f} GB free", f"可用 {needed / 1e9:.2f} GB"),
                found=f"{free / 1e9:.2f} GB",
                where=out,
                fix=tr("Free some space, or choose another --out.", "请腾出空间，或换一个 --out。"),
            )


def open_subject(reference: str, tokens: int) -> Subject:
    """What a model's config says, without its weights. Raises `LuhuoError` for a model that is no decoder, not a
    directory, or in few bits already."""
    from luhuo.files.references import expand, resolve
    from luhuo.model.config import ModelConfig
    from luhuo.model.count import parameters
    from luhuo.model.families import read_config
    from luhuo.model.load import read_values
    from luhuo.model.quantised_files import METHODS

    path = resolve(expand(reference)).path
    if path.is_file():
        raise LuhuoError(
            tr("A model directory is needed here.", "这里需要模型目录。"),
            found=path.name,
            where=reference,
            fix=f"luhuo export {reference} --to hf --dtype bf16 --out DIR",
        )
    values = read_values(path)
    method = (values.get("quantization_config") or {}).get("quant_method")
    if method in METHODS:
        raise LuhuoError(
            tr("This model is quantised already.", "该模型已经量化。"),
            found=method,
            where=path,
            fix=tr(
                "Start from the model it was made of. What it lost can be measured: luhuo compression-measure.",
                "请从其原始模型开始。若要测量它的损失：luhuo compression-measure。",
            ),
        )
    config = read_config(values, path / "config.json")
    if not isinstance(config, ModelConfig):
        raise LuhuoError(
            tr("Only decoders can be compressed here.", "这里只能压缩解码器。"), found=config.family, where=path
        )
    counts = parameters(config)
    stored = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    blocks = sum(counts.get(name, 0) for name in ("attention", "mlp", "experts"))
    total = sum(counts.values())
    sizes = {"layers": config.layers, "intermediate_size": config.intermediate_size}
    return Subject(
        path,
        total,
        total - blocks,
        sizes,
        config.tie_embeddings,
        config.max_positions,
        config.hidden_size,
        stored,
        tokens,
    )
