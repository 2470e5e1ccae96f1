"""What the `config_groups` of compressed-tensors say of each matrix: its bits, and how its input is rounded.

A group names its matrices by class (Linear), by name, or by a regular expression after "re:". Configs come from
strangers: an expression that could take very long is not tried.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

PUT_IN = "input_activations"
LONGEST, MOST_STARS = 500, 4
"""Of an expression: characters, and repetitions. Groups may not be repeated at all."""


@dataclass(frozen=True)
class Scheme:
    """How a matrix is kept."""

    bits: int
    floats: bool
    inputs: Literal["int", "float"] | None
    """The numbers its input is rounded to."""


class Schemes:
    """The schemes of a `quantization_config`. Raises `LuhuoError` if it has none that can be understood."""

    def __init__(self, settings: Mapping[str, Any], where: Path) -> None:
        self._where = where
        groups = settings.get("config_groups")
        named = groups.values() if isinstance(groups, dict) else []
        self._groups = [(_targets(group), _scheme(group)) for group in named if isinstance(group, dict)]
        if not self._groups:
            self._groups = [(["Linear"], Scheme(8, settings.get("format") == "float-quantized", None))]

    def of(self, base: str) -> Scheme:
        """The scheme of the matrix with this name."""
        if len(self._groups) == 1:
            return self._groups[0][1]
        for targets, scheme in self._groups:
            if any(target == base or self._fits(target, base) for target in targets):
                return scheme
        return next((scheme for targets, scheme in self._groups if "Linear" in targets), self._groups[0][1])

    def _fits(self, target: str, base: str) -> bool:
        if not target.startswith("re:"):
            return False
        pattern = target[3:]
        stars = len(re.findall(r"[*+?{]", pattern))
        if len(pattern) > LONGEST or stars > MOST_STARS or re.search(r"\)[*+?{]|\\[0-9]", pattern):
            raise self._unread(target)
        try:
            return re.match(pattern, base) is not None
        except re.error:
            raise self._unread(target) from None

    def _unread(self, target: str) -> LuhuoError:
        return LuhuoError(
            tr("This target of a quantisation config is not understood.", "无法理解量化配置里的这个目标。"),
            found=target[:80],
            where=self._where / "config.json",
        )


def _targets(group: Mapping[str, Any]) -> list[str]:
    targets = group.get("targets")
    return [str(target) for target in targets] if isinstance(targets, list) else []


def _scheme(group: Mapping[str, Any]) -> Scheme:
    weights, inputs = (found if isinstance(found := group.get(key), dict) else {} for key in ("weights", PUT_IN))
    bits = weights.get("num_bits")
    kind: Literal["int", "float"] = "float" if inputs.get("type") == "float" else "int"
    eight = inputs.get("num_bits") == 8
    return Scheme(bits if isinstance(bits, int) else 8, weights.get("type") == "float", kind if eight else None)
