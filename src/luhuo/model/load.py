"""Reading a model directory in the Hugging Face layout: safetensors only, checked before anything is used."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from luhuo.core.device import fast_bf16, pick_device, pick_dtype
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.families import qwen3
from luhuo.model.save import TOKENIZER_KEY


def load(reference: str | Path, dtype: str = "auto", device: str = "auto") -> Decoder:
    """Load a model for use (evaluation mode), with `model.tokenizer` if the directory has one.

    `dtype` is the one parameters are kept and computed in: fp32, bf16, fp16, or auto (bf16 where that is fast and
    the weights are bf16 already or large, otherwise fp32). Raises `LuhuoError` for anything that does not fit.
    """
    root = _local(reference)
    values = _read_config(root)
    config = qwen3.read_config(values)
    place = pick_device(device)
    files = _weight_files(root)
    with torch.device("meta"):
        model = Decoder(config)
    kept = str(values.get("dtype") or values.get("torch_dtype") or "float32")
    large = sum(config.parameters().values()) > 50_000_000
    if dtype == "auto" and not (fast_bf16(place) and (large or kept == "bfloat16")):
        dtype = "fp32"
    model = model.to_empty(device="cpu").to(pick_dtype(dtype, place))
    fingerprint = _fill(model, config, files)
    model.tokenizer = _tokenizer(root, fingerprint)
    return model.to(place).eval()


def _local(reference: str | Path) -> Path:
    path = Path(reference)
    if not path.exists() and ":" in str(reference):
        from luhuo.files.references import resolve

        path = resolve(str(reference)).path
    if not path.is_dir():
        raise LuhuoError(
            tr("There is no model directory here.", "这里没有模型目录。"),
            expected=tr("a folder with config.json and safetensors files", "含 config.json 与 safetensors 文件的目录"),
            where=reference,
        )
    return path


def _read_config(root: Path) -> dict[str, Any]:
    file = root / "config.json"
    if not file.is_file():
        raise LuhuoError(
            tr("This folder is not a model: it has no config.json.", "该目录不是模型：缺少 config.json。"), where=root
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise LuhuoError(
            tr("config.json is not valid JSON.", "config.json 不是合法的 JSON。"), found=str(error), where=file
        ) from None
    names = values.get("architectures") or []
    if qwen3.ARCHITECTURE not in names:
        raise LuhuoError(
            tr("This architecture is not supported.", "不支持这种模型架构。"),
            expected=qwen3.ARCHITECTURE,
            found=", ".join(names) or values.get("model_type"),
            where=file,
        )
    return values


def _weight_files(root: Path) -> list[Path]:
    index, single = root / "model.safetensors.index.json", root / "model.safetensors"
    if single.is_file():
        return [single]
    if index.is_file():
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = [root / name for name in sorted(set(places.values()))]
        missing = [file.name for file in files if not file.is_file()]
        if not missing:
            return files
        problem = tr("Weight files named by the index are missing.", "索引中列出的权重文件缺失。")
        raise LuhuoError(problem, found=", ".join(missing), where=index)
    pickles = sorted(p.name for p in root.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    raise LuhuoError(
        tr("This folder has no safetensors weights.", "该目录没有 safetensors 权重。"),
        expected="model.safetensors",
        found=", ".join(pickles) or None,
        where=root,
        fix=tr(
            "Pickled weights can run code and are not read: convert them to safetensors.",
            "pickle 权重可执行代码，不予读取：请先转换为 safetensors。",
        )
        if pickles
        else None,
    )


def _fill(model: Decoder, config: ModelConfig, files: list[Path]) -> str | None:
    """Copy all tensors into the model, one at a time; return the tokenizer's fingerprint stored with them."""
    parameters = dict(model.named_parameters())
    expected = qwen3.shapes(config, {name: p.shape for name, p in parameters.items()})
    targets: dict[str, torch.Tensor] = {}
    for name, sources in qwen3.parts(config):
        start = 0
        for source, rows in sources:
            data = parameters[name].data
            targets[source] = data[start : start + rows] if rows else data
            start += rows
    seen: set[str] = set()
    wrong: list[str] = []
    fingerprint = None
    for file in files:
        try:
            with safe_open(file, "pt") as tensors:
                fingerprint = (tensors.metadata() or {}).get(TOKENIZER_KEY, fingerprint)
                for name in tensors.keys():  # noqa: SIM118 (not a dict)
                    shape = tuple(tensors.get_slice(name).get_shape())
                    seen.add(name)
                    if name in targets and shape == expected[name]:
                        targets[name].copy_(tensors.get_tensor(name))
                    elif name in targets:
                        wrong.append(f"{name} {list(shape)} ≠ {list(expected[name])}")
        except SafetensorError as error:
            raise LuhuoError(
                tr("A weight file is damaged.", "权重文件已损坏。"), found=str(error), where=file
            ) from None
    extra = seen - set(targets) - ({"lm_head.weight"} if config.tie_embeddings else set())
    _check(set(targets) - seen, extra, wrong, files[0].parent)
    return fingerprint


def _check(missing: Iterable[str], extra: Iterable[str], wrong: list[str], where: Path) -> None:
    labels = {
        tr("missing", "缺少"): sorted(missing),
        tr("unexpected", "多余"): sorted(extra),
        tr("wrong shape", "形状不符"): wrong,
    }
    found = [f"{label} ({len(names)}): {', '.join(names[:4])}" for label, names in labels.items() if names]
    if found:
        raise LuhuoError(
            tr("The weights do not fit config.json.", "权重与 config.json 不符。"), found="; ".join(found), where=where
        )


def _tokenizer(root: Path, fingerprint: str | None) -> Any:
    if not (root / "tokenizer.json").is_file():
        return None
    from luhuo.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(root)
    if fingerprint is not None and tokenizer.fingerprint != fingerprint:
        raise LuhuoError(
            tr("The tokenizer is not the one these weights were trained with.", "分词器与训练这些权重时所用的不同。"),
            expected=fingerprint[:16],
            found=tokenizer.fingerprint[:16],
            where=root,
            fix=tr("Put the original tokenizer files back.", "请放回原来的分词器文件。"),
        )
    return tokenizer
