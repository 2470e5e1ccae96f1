"""What a family has to show against the reference implementation, on tiny random weights.

A case names a class of transformers and small sizes. Where the published layout is another than that class's, a
`Layout` rewrites its files; where no such class exists, `tests/reference_models/` holds our own plain reading of the
published description. `tests/test_model_families.py` asserts every figure found here; `python -m tests.family_table`
writes them into docs/models.md.
"""

from __future__ import annotations

import importlib
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from luhuo.model.cache import KVCache
from luhuo.model.families import families
from luhuo.model.load import load
from luhuo.model.save import save

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Sizes as most configs of transformers name them."""


Files = tuple[dict[str, Any], dict[str, Tensor]]
"""A parsed config.json and all tensors."""


@dataclass(frozen=True)
class Layout:
    """A published layout of which the reference knows only an equal one, of other names and shapes."""

    publish: Callable[[dict[str, Any], dict[str, Tensor]], Files]
    """The reference's files to the published layout."""
    restore: Callable[[dict[str, Any], dict[str, Tensor]], Files]
    """The published layout (as we write it) to the reference's."""
    prepare: Callable[[Any], object] = bool
    """What the reference needs in order to be of that layout at all, done to its parameters first."""


@dataclass(frozen=True)
class Case:
    """One variant of a family."""

    family: str
    """The file in `families/`."""
    reference: str
    """A class of transformers, or `module:Class` in tests/reference_models/ where there is none ("unverified")."""
    settings: dict[str, Any] = field(default_factory=dict)
    models: str = ""
    """Published models of this layout, for the table."""
    packed: bool = True
    """Whether the reference can be asked for packed documents one by one (recurrent layouts cannot)."""
    layout: Layout | None = None
    """How the published layout differs from the reference's, if it does."""

    @property
    def verified(self) -> bool:
        """Whether the reference is a public implementation."""
        return ":" not in self.reference


@dataclass(frozen=True)
class Result:
    """Largest differences of logits from the reference, and whether the export is the same bit for bit."""

    full: float
    padded: float
    packed: float
    cached: float
    reopened: float
    round_trip: bool


def reference(case: Case) -> Any:
    """The reference model with random weights (norms and biases too, so that no tensor is without effect)."""
    torch.manual_seed(0)
    if ":" in case.reference:
        module, name = case.reference.split(":")
        model_class = getattr(importlib.import_module(f"tests.reference_models.{module}"), name)
    else:
        model_class = getattr(transformers, case.reference)
    model = model_class(model_class.config_class(**case.settings)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() < 2:
                parameter += 0.3 * torch.randn_like(parameter)
            elif "embed" not in name and not parameter.any():
                parameter.normal_(0, 0.2)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer += 0.3 * torch.randn_like(buffer)
        if case.layout is not None:
            case.layout.prepare(model)
    return model


def random_ids(*shape: int) -> Tensor:
    """Token ids above the special ones."""
    return torch.randint(5, 97, shape, generator=torch.Generator().manual_seed(2))


def publish(case: Case, theirs: Any, folder: Path) -> None:
    """Write a reference in the published layout."""
    theirs.save_pretrained(folder)
    if case.layout is not None:
        rewrite(folder, case.layout.publish)


@torch.no_grad()
def run(case: Case) -> Result:
    """Compare one case with its reference in every way the engine uses a model."""
    theirs = reference(case)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "theirs"), Path(folder, "ours")
        publish(case, theirs, source)
        ours = load(source, dtype="fp32", device="cpu")
        assert ours.config.family == case.family, f"read by {ours.config.family}"
        save(ours, target)
        ignored = re.compile(getattr(families()[case.family], "IGNORED", r"(?!)"))  # tables, no weights
        after = tensors(target)
        before = {name: part for name, part in tensors(source).items() if name in after or not ignored.search(name)}
        if case.layout is not None:
            rewrite(target, case.layout.restore)
        again = type(theirs).from_pretrained(target, dtype=torch.float32).eval()
        same = before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
        ids = random_ids(2, 40)
        expected = theirs(ids).logits
        return Result(
            full=difference(ours(ids), expected),
            padded=_padded(ours, theirs),
            packed=_packed(ours, theirs) if case.packed else 0.0,
            cached=_cached(ours, theirs),
            reopened=difference(again(ids).logits, expected),
            round_trip=same,
        )


def rewrite(folder: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], Files]) -> None:
    """Replace config and weights of a model directory."""
    file = folder / "config.json"
    values, changed = change(json.loads(file.read_text(encoding="utf-8")), tensors(folder))
    file.write_text(json.dumps(values), encoding="utf-8")
    save_file(
        {name: part.contiguous() for name, part in changed.items()}, folder / "model.safetensors", {"format": "pt"}
    )


def tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a model directory."""
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest absolute difference, infinite where one side is not a number."""
    gap = (ours.float() - theirs.float()).abs().max().item()
    return gap if gap == gap else float("inf")


def _padded(ours: Any, theirs: Any) -> float:
    """A batch of 30 and 17 tokens, padded on the left; the padding's logits mean nothing."""
    ids = random_ids(2, 30)
    mask = torch.ones_like(ids)
    mask[1, :13] = 0
    ids[1, :13] = 0
    found = ours(ids, segments=mask)
    gaps = [difference(found[row, mask[row] > 0], theirs(ids[row, mask[row] > 0][None]).logits[0]) for row in (0, 1)]
    return max(gaps)


def _packed(ours: Any, theirs: Any) -> float:
    """Documents of 14, 20 and 6 tokens in one row."""
    lengths = [14, 20, 6]
    ids = random_ids(1, sum(lengths))
    segments = torch.repeat_interleave(torch.arange(1, 4), torch.tensor(lengths))[None]
    expected = torch.cat([theirs(part).logits for part in ids.split(lengths, 1)], 1)
    return difference(ours(ids, segments=segments), expected)


def _cached(ours: Any, theirs: Any) -> float:
    """Rows of 12 and 7 tokens (ragged), then ten single tokens and a chunk of four, against whole passes."""
    ids, starts = random_ids(2, 30), [12, 7]
    cache = KVCache(ours.config, 2, 4)
    real = torch.arange(12)[None] < torch.tensor(starts)[:, None]
    first = ours(torch.where(real, ids[:, :12], 0), segments=real.int(), cache=cache)
    found = [[first[row, : starts[row]]] for row in (0, 1)]
    for step in [1] * 10 + [4]:
        part = torch.stack([ids[row, cache.lengths[row] : cache.lengths[row] + step] for row in (0, 1)])
        logits = ours(part, cache=cache)
        for row in (0, 1):
            found[row].append(logits[row])
    gaps = []
    for row in (0, 1):
        expected = theirs(ids[row : row + 1, : cache.lengths[row]]).logits[0]
        gaps.append(difference(torch.cat(found[row]), expected))
    return max(gaps)
