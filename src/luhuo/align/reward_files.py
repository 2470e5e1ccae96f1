"""Reward models on disk: Hugging Face's `…ForSequenceClassification` with one label.

`transformers` loads such a directory, and its logits are our scores less `reward_offset`, a number in `config.json`
that a decoder's published head, having no bias, cannot hold; comparisons do not feel it.
"""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from luhuo.adapter.attach import attached, merge, needed
from luhuo.adapter.files import CONFIG as ADAPTER_CONFIG
from luhuo.adapter.files import is_adapter
from luhuo.adapter.files import load as load_adapter
from luhuo.adapter.files import read_values as read_adapter_values
from luhuo.adapter.open import base_of, open_model
from luhuo.align.policy import keep_policy
from luhuo.align.reward_model import LABEL, AnyRewardModel, RewardEncoder, RewardModel, with_head
from luhuo.core.atomic import write_json
from luhuo.core.device import pick_device, pick_dtype
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.references import resolve
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.families import families, links, read_config, write_config
from luhuo.model.load import load, read_tokenizer, read_values
from luhuo.model.quantised import SCHEMES
from luhuo.model.save import TOKENIZER_KEY, save, with_stops, write_shards
from luhuo.model.weights import SafetensorsWeights, fill, published_tensors

SUFFIX = "ForSequenceClassification"
CAUSAL = ("ForCausalLM", "LMHeadModel")
HEAD, OFFSET = "score.weight", "reward_offset"


def save_reward_model(model: AnyRewardModel, directory: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write weights, configs and tokenizer files; `config.json` comes last. Weights are written in `dtype` (the
    parameters' own by default)."""
    root = Path(directory)
    adapter = attached(model)
    if adapter is not None and not adapter.whole:
        _save_adapter(model, root)
        return
    if isinstance(model, RewardEncoder):
        save(model, root, dtype=dtype)
        return
    root.mkdir(parents=True, exist_ok=True)
    dtype = dtype or model.embedding.dtype
    config, metadata = model.config, {"format": "pt"}
    if model.tokenizer is not None:
        model.tokenizer.save(root)
        metadata[TOKENIZER_KEY] = model.tokenizer.fingerprint
        config = with_stops(config, model.tokenizer)
    tensors = [(name, tensor.to("cpu", dtype)) for name, tensor in _published(model)]
    write_shards(root, [(name, tensor.nbytes) for name, tensor in tensors], iter(tensors), metadata)
    values = write_config(config, dtype) | {"architectures": [classifier_name(config)], "num_labels": 1}
    values |= {"id2label": {"0": LABEL}, "label2id": {LABEL: 0}, OFFSET: model.offset}
    write_json(root / "config.json", values)


def load_reward_model(reference: str | Path, dtype: str = "fp32", device: str = "auto") -> AnyRewardModel:
    """A reward model for use (evaluation mode), from a directory or a reference to one: ours, or any
    `…ForSequenceClassification` with one label. Raises `LuhuoError` for anything else."""
    path = Path(reference)
    root = path if path.exists() else resolve(str(reference)).path
    if is_adapter(root):
        return _load_adapter(root, dtype, device)
    values = read_values(root)
    name = next((str(n) for n in values.get("architectures") or () if str(n).endswith(SUFFIX)), None)
    if name is None or _label_count(values) != 1:
        raise LuhuoError(
            tr("This is no reward model.", "这不是奖励模型。"),
            expected=tr(f"an architecture …{SUFFIX} with one label", f"只有一个标签的 …{SUFFIX} 架构"),
            found=f"{', '.join(map(str, values.get('architectures') or ())) or '–'}, {_label_count(values)}",
            where=root,
            fix=tr("The stage reward makes one.", "可用 reward 阶段训练一个。"),
        )
    if _is_encoder(name):
        found = with_head(load(root, dtype, device), 0)
        assert isinstance(found, RewardEncoder)
        return found
    place = pick_device(device)
    config = read_config(values | {"architectures": [_causal_name(name, root)]}, root / "config.json")
    config = config.model_copy(update={"tie_embeddings": True, "head_bias": False, "mtp_layers": 0})
    with SafetensorsWeights(root) as weights:
        with torch.device("meta"):
            decoder = Decoder(config)
        decoder = decoder.to(pick_dtype(dtype, place)).to_empty(device="cpu")
        fill(decoder, config, weights, {HEAD})
        model = with_head(decoder, 0)
        assert isinstance(model, RewardModel)
        if weights.shapes().get(HEAD) != tuple(model.score.weight.shape):
            raise LuhuoError(
                tr("The reward head is missing or has another shape.", "奖励头缺失或形状不符。"),
                expected=f"{HEAD} {list(model.score.weight.shape)}",
                found=weights.shapes().get(HEAD),
                where=root,
            )
        with torch.no_grad():
            model.score.weight.copy_(weights.tensor(HEAD))
        model.tokenizer = read_tokenizer(root, weights.metadata.get(TOKENIZER_KEY))
    model.offset = float(values.get(OFFSET, 0.0))
    return model.to(place).eval()


def open_with_head(reference: str, dtype: str, seed: int) -> AnyRewardModel:
    """A model of any kind on the CPU with a head: the one it has if it is a reward model, else a new one."""
    if is_reward_model(reference):
        return load_reward_model(reference, dtype, "cpu")
    return with_head(open_model(reference, dtype, "cpu"), seed)


def head_names(model: AnyRewardModel) -> dict[str, str]:
    """The parameters of the head, an encoder's dense layer included, to their published names."""
    if isinstance(model, RewardModel):
        return {HEAD: HEAD}
    return {link.ours: link.theirs[0] for link in links(model.config) if link.ours.startswith("text_labels.")}


def _save_adapter(model: AnyRewardModel, root: Path) -> None:
    """The adapter as peft keeps that of a classifier: the head goes with it."""
    parameters, names = dict(model.named_parameters()), head_names(model)
    keep_policy(model, root, {theirs: parameters[ours] for ours, theirs in names.items()})
    file = root / ADAPTER_CONFIG
    values = json.loads(file.read_text(encoding="utf-8"))
    whole = {*needed(model).config.train, *(theirs.rpartition(".")[0] for theirs in names.values())}
    offset = {OFFSET: model.offset} if isinstance(model, RewardModel) else {}
    write_json(file, values | {"task_type": "SEQ_CLS", "modules_to_save": sorted(whole)} | offset)


def _load_adapter(root: Path, dtype: str, device: str) -> AnyRewardModel:
    base = base_of(root)
    model = open_with_head(base, dtype, 0)
    values = read_adapter_values(root)
    found = load_adapter(model, root, base=base)
    parameters = dict(model.named_parameters())
    wanted = head_names(model)
    missing = [o for o, theirs in wanted.items() if theirs not in found and o not in needed(model).extra]
    if missing:
        raise LuhuoError(
            tr("The adapter has no reward head.", "该适配器没有奖励头。"), expected=", ".join(missing), where=root
        )
    with torch.no_grad():
        for ours, theirs in wanted.items():
            if theirs in found:
                parameters[ours].copy_(found[theirs])
    if isinstance(model, RewardModel):
        model.offset = float(values.get(OFFSET, 0.0))
    if needed(model).mergeable and dtype not in SCHEMES:
        merge(model)
    return model.requires_grad_(True).to(pick_device(device)).eval()


def is_reward_model(reference: str | Path) -> bool:
    """Whether a directory on this disk holds a classification model."""
    root = Path(reference)
    if is_adapter(root):
        return read_adapter_values(root).get("task_type") == "SEQ_CLS"
    if not (root / "config.json").is_file():
        return False
    return any(str(name).endswith(SUFFIX) for name in read_values(root).get("architectures") or ())


def classifier_name(config: ModelConfig) -> str:
    """The published class of a decoder's family with a classification head: `Qwen3ForSequenceClassification`."""
    name = write_config(config, torch.float32)["architectures"][0]
    return next(name.removesuffix(end) for end in (*CAUSAL, "") if name.endswith(end)) + SUFFIX


def _published(model: RewardModel) -> chain[tuple[str, Tensor]]:
    named: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if name != HEAD}
    return chain(published_tensors(model.config, named), [(HEAD, model.score.weight.detach())])


def _known() -> set[str]:
    return {name for module in families().values() for name in module.ARCHITECTURES}


def _is_encoder(name: str) -> bool:
    """Families of encoders list their classification class themselves."""
    return name in _known()


def _causal_name(name: str, where: Path) -> str:
    stem, known = name.removesuffix(SUFFIX), _known()
    found = next((stem + end for end in CAUSAL if stem + end in known), None)
    if found is None:
        raise LuhuoError(
            tr("This architecture is not supported.", "不支持这种模型架构。"),
            expected=tr("one of the table in docs/models.md", "docs/models.md 表中的一种"),
            found=name,
            where=where,
        )
    return found


def _label_count(values: dict[str, Any]) -> int:
    names = values.get("id2label")
    return len(names) if isinstance(names, dict) else int(values.get("num_labels") or 2)
