"""`luhuo export`: write a model for other programs: as a Hugging Face directory, for vLLM, as a GGUF file, or a
quantised directory in another layout."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.export_vllm import add_command
from luhuo.files.references import resolve

FORMATS: dict[str, tuple[str, ...]] = {
    "hf": ("fp32", "bf16", "fp16"),
    "vllm": ("fp32", "bf16", "fp16"),
    "gguf": (
        "f32", "f16", "bf16", "q8_0", "q8_0_plain", "q6_k", "q5_k_m", "q5_k_s", "q5_1", "q5_0", "q4_k_m", "q4_k_s",
        "q4_1", "q4_0", "q3_k_m", "q3_k_s", "q2_k", "kept",
    ),
    "compressed-tensors": (),
    "gptq": (),
    "awq": (),
    "bitsandbytes": (),
}  # fmt: skip
"""Number formats each layout can be written in; those of quantised directories have the bits of the source."""

SPELLINGS = {"fp32": "f32", "fp16": "f16", "int8": "q8_0", "int4": "q4_0"}
"""Our names of number formats as GGUF has them."""

KEPT = ("README.md", "LICENSE*", "NOTICE*")
"""Files of the source that go along with its weights."""


def export(reference: str, to: str, dtype: str | None, out: Path, importance: str | None = None) -> None:
    """Write the model under the final name `out` when it is whole.

    `importance`: for GGUF's k-quants, a file of llama.cpp's `llama-imatrix`, or text to find out what matters on.
    Raises `LuhuoError` if the format is not known, `out` is taken, or the model cannot be written in it.
    """
    if to not in FORMATS:
        raise LuhuoError(tr("Unknown format.", "未知的格式。"), expected=", ".join(FORMATS), found=to, where="--to")
    kind = SPELLINGS.get(dtype, dtype) if to == "gguf" and dtype else dtype
    if kind is not None and kind not in FORMATS[to]:
        raise LuhuoError(
            tr("This number format cannot be written there.", "该格式不支持这种数值类型。"),
            expected=", ".join(FORMATS[to]) or tr("none: it has the source's bits", "无需指定：沿用源模型的位数"),
            found=dtype,
            where="--dtype",
        )
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise LuhuoError(
            tr("There is something under this name already.", "该名称下已有内容。"),
            where=out,
            fix=tr("Choose another --out, or remove it.", "换一个 --out，或先删除。"),
        )
    source = resolve(reference).path
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        if to == "gguf":
            _to_gguf(source, kind, partial, out.stem, importance)
        elif not FORMATS[to]:
            _to_quantised(source, to, partial)
        else:
            _to_directory(source, kind, partial)
        command = add_command(partial, str(out)) if to == "vllm" else None
        if out.is_dir():
            out.rmdir()
        partial.rename(out)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.unlink(missing_ok=True)
    print(out)
    if command:
        print(command)


def _to_directory(source: Path, dtype: str | None, partial: Path) -> None:
    """A model directory in the Hugging Face layout, by default in the numbers the source is stored in."""
    from luhuo.model.factorised import densify
    from luhuo.model.load import load
    from luhuo.model.save import save

    kind = dtype or _stored_in(source)
    model: Any = load(source, dtype="bf16" if kind == "bf16" else "fp32", device="cpu")
    densify(model)
    save(model, partial, dtype=_torch_dtype(kind))
    if source.is_dir():
        for pattern in KEPT:
            for file in source.glob(pattern):
                shutil.copyfile(file, partial / file.name)


def _to_quantised(source: Path, to: str, partial: Path) -> None:
    """Another layout of a quantised directory, with its integers."""
    from luhuo.model.quantised_convert import convert

    if not source.is_dir():
        raise LuhuoError(
            tr("A quantised model directory is needed here.", "这里需要量化后的模型目录。"),
            found=source.name,
            where=source,
        )
    convert(source, to, partial)


def _to_gguf(source: Path, kind: str | None, partial: Path, name: str, importance: str | None) -> None:
    """A GGUF file with the tokenizer and the chat template; 16-bit sources are read as they are stored, and a
    quantised directory keeps its integers if nothing else is asked for."""
    from luhuo.model.factorised import densify
    from luhuo.model.gguf import export_gguf
    from luhuo.model.gguf_source import rounded_rows
    from luhuo.model.load import load

    model: Any = load(source, dtype="bf16" if _stored_in(source) == "bf16" else "fp32", device="cpu")
    densify(model)
    with rounded_rows(source, model) as rounded:
        kind = kind or ("kept" if rounded is not None and source.is_dir() else "f16")
        table = _table(importance, model) if importance else None
        export_gguf(model, partial, kind, name=name, rounded=rounded, importance=table)


CALIBRATION = {"count": 64, "length": 512}
"""Sequences of tokens that importance is measured on."""


def _table(importance: str, model: Any) -> Any:
    """The importance of columns: out of a file of llama.cpp, or measured on text."""
    from luhuo.compress.calibration import sequences
    from luhuo.model.gguf import find_layout
    from luhuo.model.gguf_importance import measure_importance, read_importance

    if importance.endswith(".gguf"):
        return read_importance(resolve(importance).path)
    if model.tokenizer is None:
        raise LuhuoError(
            tr("A model without a tokenizer reads no text.", "没有分词器的模型无法读取文本。"), where="--importance"
        )
    return measure_importance(model, find_layout(model.config), sequences(importance, model.tokenizer, **CALIBRATION))


def _stored_in(source: Path) -> str:
    """The number format that `config.json` names; fp32 where it says none."""
    if not source.is_dir():
        return "fp32"
    from luhuo.model.load import read_values
    from luhuo.model.sentence import encoder_folder

    values = read_values(encoder_folder(source))
    named = str(values.get("dtype") or values.get("torch_dtype") or "float32")
    return {"bfloat16": "bf16", "float16": "fp16"}.get(named, "fp32")


def _torch_dtype(kind: str) -> Any:
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[kind]
