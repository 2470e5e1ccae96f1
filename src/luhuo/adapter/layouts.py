"""What adapter_config.json says, ours and peft's, as an `AdapterConfig`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from luhuo.adapter.config import AdapterConfig
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

Values = Mapping[str, Any]


def _targets(values: Values) -> dict[str, Any]:
    """`target_modules`, `layers_to_transform` and `modules_to_save`."""
    wanted = values.get("target_modules")
    if isinstance(wanted, str) and wanted != "all-linear":
        raise LuhuoError(
            tr("Modules named by a regular expression are not read.", "不读取以正则表达式指定的模块。"),
            expected=tr("a list of names", "名称列表"),
            found=wanted,
        )
    layers = values.get("layers_to_transform")
    targets = ["all"] if isinstance(wanted, str) else sorted(wanted or [])
    found = {"targets": targets, "layers": [layers] if isinstance(layers, int) else list(layers or [])}
    return found | {"train": list(values.get("modules_to_save") or [])}


def _lora(values: Values) -> dict[str, Any]:
    rank, alpha = values.get("r", 8), values.get("lora_alpha", 8)
    rs = bool(values.get("use_rslora"))
    common = {"rank": rank, "alpha": float(alpha), "rslora": rs}
    return {"method": "dora" if values.get("use_dora") else "lora", **common, **_targets(values)}


def _ranked(method: str) -> Callable[[Values], dict[str, Any]]:
    return lambda values: {"method": method, "rank": values["r"], **_targets(values)}


def _ia3(values: Values) -> dict[str, Any]:
    return {"method": "ia3", **_targets(values)}


def _bottleneck(method: str) -> Callable[[Values], dict[str, Any]]:
    def read(values: Values) -> dict[str, Any]:
        found = _targets(values)
        return {"method": method, "rank": values["r"], "layers": found["layers"], "train": found["train"]}

    return read


def _adalora(values: Values) -> dict[str, Any]:
    ranks = {"rank": values.get("target_r", 8), "start_rank": values.get("init_r", 12)}
    return {"method": "adalora", **ranks, "alpha": float(values.get("lora_alpha", 8)), **_targets(values)}


def _virtual(method: str) -> Callable[[Values], dict[str, Any]]:
    return lambda values: {"method": method, "tokens": values["num_virtual_tokens"]}


def _plain(method: str) -> Callable[[Values], dict[str, Any]]:
    return lambda values: {"method": method}


READERS: dict[str, Callable[[Values], dict[str, Any]]] = {
    "LORA": _lora,
    "VERA": _ranked("vera"),
    "IA3": _ia3,
    "HOULSBY": _bottleneck("houlsby"),
    "PFEIFFER": _bottleneck("pfeiffer"),
    "ADALORA": _adalora,
    "PROMPT_TUNING": _virtual("prompt"),
    "PREFIX_TUNING": _virtual("p-tuning-v2"),
    "BITFIT": _plain("bitfit"),
    "FISHMASK": _plain("fishmask"),
}
"""By peft's name of the method."""

ONLY: dict[str, tuple[Any, ...]] = {
    "bias": (None, "none"),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
    "layer_replication": (None, []),
    "trainable_token_indices": (None, []),
    "target_parameters": (None, []),
    "lora_bias": (None, False),
}
"""Options that change what is computed, and the values with which they do not."""


def config_of(values: Values, where: object) -> AdapterConfig:
    """The config of a saved adapter. Raises `LuhuoError` for a method or an option that is not read."""
    kind = values.get("peft_type")
    if kind not in READERS:
        raise LuhuoError(
            tr("Adapters of this kind are not read.", "不读取这种适配器。"),
            expected=", ".join(READERS),
            found=kind,
            where=where,
        )
    wrong = {key: values[key] for key, allowed in ONLY.items() if values.get(key) not in allowed}
    if wrong:
        raise LuhuoError(
            tr("This variant of the method is not supported.", "不支持该方法的这种变体。"), found=wrong, where=where
        )
    return AdapterConfig.parse(READERS[str(kind)](values), where=str(where))
