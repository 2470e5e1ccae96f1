"""What can be tried on a model: found in the fields of the compressing stages, so that a new method joins by itself.

A stage of this room that reads a `model` is a way to compress. Of its fields those in `AXES` are varied; all
combinations that its own checks accept are candidates. Calibration text is given to those that are not accepted
without.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from luhuo.core.config import unknown_key
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.stage import Stage

ROOM = "luhuo.compress."
AXES: dict[str, Mapping[Any, int] | None] = {
    "method": None,
    "pattern": None,
    "bits": {8: 0, 4: 0, 3: 1, 2: 2},
    "group": {"auto": 0, 32: 1},
    "sparsity": {0.5: 0, 0.25: 1},
    "ratio": {0.8: 0, 0.6: 1},
}
"""Fields that are varied: value to how late it is tried (0: first). None: all values the field knows, at once."""
THEN_BITS = 4
"""What else a model is made of less of (pruned, factorised, trimmed) is also tried in so many bits."""
THEN_METHODS = ("gptq", "awq", "rtn")
"""By the first of these that there is."""
COMBINED_LATE = 2
VALUES: dict[str, Any] = {"model": "-", "data": "-", "test": []}


@dataclass(frozen=True)
class Step:
    """A stage with the fields that make it what it is; model and text are filled in when it runs."""

    stage: str
    values: Mapping[str, Any] = field(hash=False)
    reads: bool
    """Whether it is given calibration text."""

    @property
    def kind(self) -> tuple[str, str]:
        """Stage and method: what the time it takes depends on."""
        return self.stage, str(self.values.get("method", ""))

    @property
    def label(self) -> str:
        """What people call it: "gptq 4-bit g32"."""
        words = [] if self.stage == "quantize" else [self.stage]
        for name, value in self.values.items():
            if name == "bits":
                words.append(f"{value}-bit")
            elif name == "group":
                words += [] if value == "auto" else [f"g{value}"]
            else:
                words.append(str(value))
        return " ".join(words)

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


def discover(stages: Mapping[str, type[Stage]]) -> list[Candidate]:
    """All candidates, those that are tried first in front."""
    single = [candidate for name, cls in stages.items() for candidate in _of_stage(name, cls)]
    found = single + list(_combined(single))
    return sorted(found, key=lambda one: (one.late, len(one.steps), any(step.reads for step in one.steps)))


def chosen(candidates: Sequence[Candidate], words: Iterable[str]) -> list[Candidate]:
    """Those that the words name. Raises `LuhuoError` for a word that names nothing."""
    wanted = {word.strip().lower() for word in words if word.strip()}
    known = {word for one in candidates for step in one.steps for word in step.words} | {c.name for c in candidates}
    for word in sorted(wanted - known):
        raise unknown_key(word, sorted(known), "--methods", tr("method", "方法"))
    return [one for one in candidates if not wanted or one.named_by(wanted)]


def _of_stage(name: str, cls: type[Stage]) -> Iterator[Candidate]:
    if not cls.__module__.startswith(ROOM) or "model" not in cls.model_fields:
        return
    axes = {field: _values(cls, field) for field in AXES if field in cls.model_fields}
    for picked in itertools.product(*(values.items() for values in axes.values())):
        values = {field: value for field, (value, _) in zip(axes, picked, strict=True)}
        late = sum(when for _, when in picked)
        if values.get("bits") == 8 and values.get("group", "auto") != "auto":
            continue  # so many steps that it hardly matters how many columns share a scale
        reads = _reads(name, cls, values)
        if reads is not None:
            yield Candidate((Step(name, values, reads),), late)


def _values(cls: type[Stage], field: str) -> Mapping[Any, int]:
    """Values of a field worth trying, and how late."""
    annotation, wanted = cls.model_fields[field].annotation, AXES[field]
    literal = get_args(annotation) if get_origin(annotation) is Literal else None
    if wanted is None:
        default = cls.model_fields[field].default
        return dict.fromkeys(literal if literal is not None else (default,), 0)
    return {value: late for value, late in wanted.items() if literal is None or value in literal}


def _reads(name: str, cls: type[Stage], values: Mapping[str, Any]) -> bool | None:
    """Whether these fields are accepted with calibration text only; None: not at all."""
    for given in ({}, {"data": VALUES["data"]}, {"data": [VALUES["data"]]}):
        if given and "data" not in cls.model_fields:
            break
        try:
            cls.parse({"model": VALUES["model"], **values, **given}, where=name)
        except LuhuoError:
            continue
        return bool(given)
    return None


def _combined(single: Sequence[Candidate]) -> Iterator[Candidate]:
    """What makes less of a model, then few bits of what is left."""
    rounding = [one.steps[0] for one in single if one.steps[0].stage == "quantize" and one.late == 0]
    few = {step.values["method"]: step for step in rounding if step.values.get("bits") == THEN_BITS}
    then = next((few[method] for method in THEN_METHODS if method in few), None)
    for one in single:
        if then is not None and one.steps[0].stage != "quantize" and one.late == 0:
            yield Candidate((*one.steps, then), COMBINED_LATE)
