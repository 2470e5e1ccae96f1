"""What can be tried on a model: found in the fields of the compressing stages, so that a new method joins by itself.

A stage of this room that reads a `model` is a way to compress. Of its fields those in `AXES` are varied; all
combinations that its own checks accept are candidates. Calibration text is given to those that are not accepted
without.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from luhuo.core.config import unknown_key
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.stage import Stage

ROOM = "luhuo.compress."
AXES: dict[str, Mapping[Any, int] | None] = {
    "method": None,
    "bits": {8: 0, 4: 0, 3: 1, 2: 2},
    "average_bits": {4.0: 1, 3.0: 2},
    "group": {"auto": 0, 32: 1},
    "embedding_bits": {8: 0},
    "head_bits": {8: 0},
    "ratio": {0.8: 0, 0.6: 1},
    "pattern": {"2:4": 0},
    "sparsity": {0.5: 1, 0.25: 2},
    "layers": {0.75: 0},
    "intermediate_size": {0.5: 0},
}
"""Fields that are varied: value to how late it is tried (0: first). None: all values the field knows, at once. Sizes
are shares of the model's own. A field that may be left out is, too."""
HOW_MUCH = ({"pattern"}, {"sparsity"}, {"layers"}, {"intermediate_size"})
"""Fields that say how much is taken away: one of them at a time."""
THEN_BITS = 4
"""What else a model is made of less of (pruned, factorised, trimmed) is also tried in so many bits."""
THEN_METHODS = ("gptq", "awq", "rtn")
"""By the first of these that there is."""
COMBINED_LATE = 2
OUTER_BITS = 4
"""With so many bits in the blocks the embedding is also tried in few: it is then a good part of a small model."""
OPTIONAL = ("group", "average_bits", "embedding_bits", "head_bits")
"""Fields that are left out, too, whatever their default."""
UNSET = None
"""The value of a field that is left out."""
WORDS: dict[str, Callable[[Any], str]] = {
    "bits": lambda bits: f"{bits}-bit",
    "average_bits": lambda bits: f"mixed {bits:g}-bit",
    "embedding_bits": lambda bits: f"emb{bits}",
    "head_bits": lambda bits: "",
    "group": lambda group: "" if group == "auto" else f"g{group}",
    "sparsity": lambda share: f"{100 * share:.0f}%",
    "ratio": lambda share: f"{100 * share:.0f}%",
    "layers": lambda count: f"layers={count}",
    "intermediate_size": lambda count: f"width={count}",
}
"""How a value is called."""


@dataclass(frozen=True)
class Step:
    """A stage with the fields that make it what it is; model and text are filled in when it runs."""

    stage: str
    values: Mapping[str, Any] = field(hash=False)
    reads: bool
    """Whether it is given calibration text."""
    corrects: bool = False
    """Whether it makes up for what the step before has lost, and looks at the original, too."""

    @property
    def kind(self) -> tuple[str, str]:
        """Stage and method: what the time it takes depends on."""
        mixed = " mixed" if "average_bits" in self.values else ""
        return self.stage, f"{self.values.get('method', '')}{mixed}"

    @property
    def label(self) -> str:
        """What people call it: "gptq 4-bit g32"."""
        words = [] if self.stage == "quantize" else [self.stage]
        words += [WORDS[name](value) if name in WORDS else str(value) for name, value in self.values.items()]
        return " ".join(word for word in words if word)

    @property
    def words(self) -> set[str]:
        """What `--methods` may name it by."""
        return {word.lower() for word in (self.stage, *self.label.split())}


@dataclass(frozen=True)
class Candidate:
    """One way to compress: a stage, or several in turn."""

    steps: tuple[Step, ...]
    late: int = field(compare=False, default=0)

    @property
    def label(self) -> str:
        """For people."""
        return " + ".join(step.label for step in self.steps)

    @property
    def name(self) -> str:
        """For folders."""
        return "--".join(re.sub(r"[^a-z0-9.]+", "-", step.label.lower()).strip("-") for step in self.steps)

    def named_by(self, words: set[str]) -> bool:
        """Whether words name it: each of its steps, or all of it."""
        return self.name in words or all(step.words & words for step in self.steps)


def discover(stages: Mapping[str, type[Stage]], sizes: Mapping[str, int], *, tied: bool = True) -> list[Candidate]:
    """All candidates, those that are tried first in front. `sizes`: of the model, by the names its config has;
    `tied`: whether its embedding is its output matrix."""
    single = [one for name, cls in stages.items() for one in _of_stage(name, cls, sizes) if _outer(one, tied)]
    corrected = [one for name, cls in stages.items() for one in _corrected(name, cls, single)]
    return sorted([*single, *_combined(single), *corrected], key=_order)


def _order(one: Candidate) -> tuple[int, int, bool, bool]:
    """What needs no text goes before what does, and few bits, which rarely disappoint, before the rest."""
    reads = any(step.reads for step in one.steps)
    return one.late, len(one.steps), reads, one.steps[0].stage != "quantize"


def chosen(candidates: Sequence[Candidate], words: Iterable[str]) -> list[Candidate]:
    """Those that the words name. Raises `LuhuoError` for a word that names nothing."""
    wanted = {word.strip().lower() for word in words if word.strip()}
    known = {word for one in candidates for step in one.steps for word in step.words} | {c.name for c in candidates}
    for word in sorted(wanted - known):
        raise unknown_key(word, sorted(known), "--methods", tr("method", "方法"))
    return [one for one in candidates if not wanted or one.named_by(wanted)]


def _of_stage(name: str, cls: type[Stage], sizes: Mapping[str, int]) -> Iterator[Candidate]:
    if not cls.__module__.startswith(ROOM) or "model" not in cls.model_fields:
        return
    axes = {field: _values(cls, field, sizes) for field in AXES if field in cls.model_fields}
    for picked in itertools.product(*(values.items() for values in axes.values())):
        values = {field: value for field, (value, _) in zip(axes, picked, strict=True) if value is not UNSET}
        if not _sensible(values, axes.keys()):
            continue
        reads = _reads(name, cls, values)
        if reads is not None:
            yield Candidate((Step(name, values, reads),), sum(when for _, when in picked))


def _sensible(values: Mapping[str, Any], fields: Collection[str]) -> bool:
    """Whether values of the axes `fields` go together, beyond what the stage itself checks."""
    if sum(1 for names in HOW_MUCH if names & values.keys()) != any(names & set(fields) for names in HOW_MUCH):
        return False
    bits = values.get("bits", values.get("average_bits"))
    if "average_bits" in fields and ("bits" in values) == ("average_bits" in values):
        return False
    if "group" in fields and ("group" in values) != (bits is not None):
        return False
    if "embedding_bits" in values and (values.get("bits") != OUTER_BITS or values["group"] != "auto"):
        return False
    if "average_bits" in values and values["group"] != "auto":
        return False
    # With so many steps it hardly matters how many columns share a scale.
    return values.get("bits") != 8 or values.get("group", "auto") == "auto"


def _values(cls: type[Stage], field: str, sizes: Mapping[str, int]) -> Mapping[Any, int]:
    """Values of a field worth trying, and how late."""
    info, wanted = cls.model_fields[field], AXES[field]
    left_out = (
        info.default in (None, "") or field in OPTIONAL or (field == "bits" and "average_bits" in cls.model_fields)
    )
    optional = {UNSET: 0} if left_out else {}
    if wanted is None:
        choices = get_args(info.annotation) if get_origin(info.annotation) is Literal else (info.default,)
        return dict.fromkeys(choices, 0)
    if field in sizes:
        wanted = {max(1, round(share * sizes[field])): late for share, late in wanted.items()}
    later = 1 if field == "bits" and info.default is None else 0  # where bits are an extra
    return optional | {value: late + later for value, late in wanted.items()}


def _reads(name: str, cls: type[Stage], values: Mapping[str, Any]) -> bool | None:
    """Whether these fields are accepted with calibration text only; None: not at all."""
    for given in ({}, {"data": "-"}, {"data": ["-"]}):
        if given and "data" not in cls.model_fields:
            break
        try:
            cls.parse({"model": "-", **values, **given}, where=name)
        except LuhuoError:
            continue
        return bool(given)
    return None


def _outer(one: Candidate, tied: bool) -> bool:
    """Whether embedding and output matrix are rounded together: one with the other, where they are two."""
    values = one.steps[0].values
    return ("head_bits" in values) == ("embedding_bits" in values and not tied)


def _corrected(name: str, cls: type[Stage], single: Sequence[Candidate]) -> Iterator[Candidate]:
    """A stage that makes up for what rounding has lost, after each way to round to few bits that is tried early."""
    if not cls.__module__.startswith(ROOM) or "quantised" not in cls.model_fields:
        return
    for one in single:
        values = one.steps[0].values
        plain = one.steps[0].stage == "quantize" and "embedding_bits" not in values and values.get("group") == "auto"
        if plain and values.get("bits") in (4, 3) and values["method"] in THEN_METHODS:
            yield Candidate((one.steps[0], Step(name, {}, "data" in cls.model_fields, corrects=True)), COMBINED_LATE)


def _combined(single: Sequence[Candidate]) -> Iterator[Candidate]:
    """What makes less of a model, then few bits of what is left."""
    rounding = [one.steps[0] for one in single if one.steps[0].stage == "quantize" and one.late == 0]
    plain = [step for step in rounding if "embedding_bits" not in step.values]
    few = {step.values["method"]: step for step in plain if step.values.get("bits") == THEN_BITS}
    then = next((few[method] for method in THEN_METHODS if method in few), None)
    for one in single:
        if then is not None and one.steps[0].stage != "quantize" and one.late == 0:
            yield Candidate((*one.steps, then), COMBINED_LATE)
