"""What blocks have become, on disk until the whole model is written: one safetensors file a block."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from luhuo.core.atomic import atomic_path
from luhuo.files.safetensors import Safetensors
from luhuo.files.safetensors_write import save_file
from luhuo.model.factorised import Factors
from luhuo.model.grid import dense
from luhuo.model.matrices import Activations, Float8, Kept
from luhuo.model.quantised import Rounded

KEPT = "luhuo.kept"
"""Key of the file's metadata that says what each tensor is part of."""
NOTES = "luhuo.notes"
"""Key of what a method said of the block."""


def dense_of(value: Tensor | Rounded | Float8) -> Tensor:
    """The numbers (rows, columns) fp32 that a value stands for."""
    if isinstance(value, Rounded):
        return dense(value)
    return value.float() if isinstance(value, Tensor) else value.values.float() * value.scale.float()


def write_part(
    file: Path, changed: Mapping[str, Kept], notes: Mapping[str, Any], factors: Mapping[str, Factors] | None = None
) -> None:
    """Write matrices and other parameters by name, those in `factors` as such, and what is to be said of them."""
    tensors: dict[str, Tensor] = {}
    told: dict[str, dict[str, Any]] = {}
    for name, pair in (factors or {}).items():
        tensors |= {f"{name}:a": pair.a.contiguous(), f"{name}:b": pair.b.contiguous()}
        told[name] = {"kind": "factors"}
    for name, kept in changed.items():
        value, inputs = kept.value, kept.activations
        parts: dict[str, Tensor | None] = {}
        if isinstance(value, Rounded):
            parts = {"q": value.q, "scale": value.scale, "low": value.low, "order": value.order}
            told[name] = {"kind": "rounded", "bits": value.bits, "group": value.group}
        elif isinstance(value, Float8):
            parts, told[name] = {"values": value.values, "scale": value.scale}, {"kind": "float8"}
        else:
            parts, told[name] = {"dense": value}, {"kind": "dense"}
        if inputs is not None:
            told[name]["inputs"] = {"kind": inputs.kind, "threshold": inputs.threshold}
            parts["input_scale"] = inputs.scale
        tensors |= {f"{name}:{part}": tensor.contiguous() for part, tensor in parts.items() if tensor is not None}
    with atomic_path(file) as temporary:
        save_file(tensors, temporary, {KEPT: json.dumps(told), NOTES: json.dumps(notes)})


def read_part(file: Path) -> dict[str, Kept]:
    """What `write_part` wrote; tensors are mapped, not read."""
    found = Safetensors(file)
    told = json.loads(found.metadata[KEPT])
    return {name: _kept(found, name, facts) for name, facts in told.items()}


def read_factors(file: Path) -> dict[str, Factors]:
    """The matrices that became factors, as these; `read_part` gives them multiplied out."""
    found = Safetensors(file)
    told = json.loads(found.metadata[KEPT])
    return {
        name: Factors(found.tensor(f"{name}:a"), found.tensor(f"{name}:b"))
        for name, facts in told.items()
        if facts["kind"] == "factors"
    }


def read_notes(file: Path) -> dict[str, Any]:
    """What was said of a block."""
    return json.loads(Safetensors(file).metadata[NOTES])


def _kept(file: Safetensors, name: str, facts: dict[str, Any]) -> Kept:
    def part(kind: str) -> Tensor | None:
        key = f"{name}:{kind}"
        return file.tensor(key) if key in file.tensors else None

    inputs = facts.get("inputs")
    activations = None if inputs is None else Activations(inputs["kind"], part("input_scale"), inputs["threshold"])
    if facts["kind"] == "rounded":
        q, scale = part("q"), part("scale")
        assert q is not None and scale is not None
        rounded = Rounded(q, scale, part("low"), facts["bits"], facts["group"], part("order"))
        return Kept(rounded, activations)
    if facts["kind"] == "float8":
        values, scale = part("values"), part("scale")
        assert values is not None and scale is not None
        return Kept(Float8(values, scale), activations)
    if facts["kind"] == "factors":
        a, b = part("a"), part("b")
        assert a is not None and b is not None
        return Kept(Factors(a, b).dense())
    value = part("dense")
    assert value is not None
    return Kept(value, activations)
