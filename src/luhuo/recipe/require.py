"""Requirements: `require: {bpb.en: "< 2.5"}` stops a recipe when a result misses its bound."""

from __future__ import annotations

import operator
import re
from typing import Any

from luhuo.core.config import Config, nearest
from luhuo.core.errors import LuhuoError, RequirementMissed
from luhuo.core.language import tr

OPERATORS = {"<=": operator.le, ">=": operator.ge, "==": operator.eq, "<": operator.lt, ">": operator.gt}


class Requirement(Config):
    """A bound on one result of a stage."""

    metric: str
    comparison: str
    bound: float

    @classmethod
    def parse_pair(cls, metric: str, bound: Any, where: str) -> Requirement:
        """Parse `metric: "<= 2.5"`. Raises `LuhuoError` on anything else."""
        match = re.fullmatch(r"\s*(<=|>=|==|<|>)\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?)\s*", str(bound))
        if not match:
            raise LuhuoError(
                tr("A requirement is a comparison with a number.", "要求应为与数字的比较。"),
                expected='"<= 2.5"',
                found=repr(bound),
                where=f"{where}.require.{metric}",
            )
        return cls(metric=metric, comparison=match[1], bound=float(match[2]))

    def check(self, results: dict[str, Any], stage: str) -> None:
        """Raise `RequirementMissed` unless the result is there and within the bound."""
        if self.metric not in results:
            raise LuhuoError(
                tr(f"The stage “{stage}” has no result “{self.metric}”.", f"阶段“{stage}”没有结果“{self.metric}”。"),
                expected=nearest(self.metric, list(results)) or ", ".join(results),
                where=f"stages.{stage}.require",
            )
        if not OPERATORS[self.comparison](results[self.metric], self.bound):
            raise RequirementMissed(
                tr(f"The stage “{stage}” misses a requirement.", f"阶段“{stage}”未达到要求。"),
                expected=f"{self.metric} {self.comparison} {self.bound:g}",
                found=f"{results[self.metric]:g}",
                where=f"stages.{stage}.require",
                fix=tr(
                    "Change the recipe so that the result improves, or the requirement; finished stages are kept.",
                    "修改配方以改进结果，或修改要求；已完成的阶段会保留。",
                ),
            )
