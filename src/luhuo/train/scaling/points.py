"""What one run of a grid measured, and the files that keep it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from luhuo.core.atomic import write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

FILE = "points.json"


@dataclass(frozen=True)
class Point:
    """One measured run."""

    parameters: int
    """All of them."""
    body: int
    """Without embeddings, positions and head."""
    tokens: int
    unique: int
    """Tokens in the corpus: where `tokens` exceeds it, text was repeated."""
    loss: float
    """Held-out bits per byte at the end of the decay."""
    flops: float
    """Of forward and backward passes (`count.flops_per_token`)."""
    flops_per_s: float
    seconds: float
    """That the run would take on its own, at its median rate."""
    run: str
    """Runs with the same value share a trunk: their errors are not independent."""
    steps: int
    batch: int
    """Tokens a step."""
    length: int
    learning_rate: float
    shape: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """JSON value."""
        return asdict(self)


def write_points(folder: Path, points: Sequence[Point]) -> None:
    """Write `points.json`."""
    write_json(folder / FILE, {"points": [point.as_dict() for point in points]})


def read_points(folder: str | Path) -> list[Point]:
    """The points of a scaling run. Raises `LuhuoError` where there are none."""
    path = Path(folder) / FILE
    if not path.is_file():
        raise LuhuoError(tr("This is not a scaling run.", "这不是 scaling-run 的产物。"), expected=FILE, where=folder)
    try:
        return [parse_point(row) for row in json.loads(path.read_text(encoding="utf-8"))["points"]]
    except (ValueError, TypeError, KeyError) as error:
        raise LuhuoError(
            tr("The points of this scaling run cannot be read.", "无法读取该缩放实验的数据点。"),
            found=error,
            where=path,
        ) from None


def read_point(path: Path) -> Point | None:
    """One point kept while a run is under way, or None."""
    return parse_point(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def parse_point(row: dict[str, Any]) -> Point:
    """A point from its JSON value. Raises `ValueError`, `TypeError` or `KeyError`."""
    point = Point(**{field.name: row[field.name] for field in fields(Point)})
    if not math.isfinite(point.flops) or min(point.parameters, point.body, point.tokens, point.unique) < 1:
        raise ValueError(f"parameters={point.parameters}, tokens={point.tokens}, flops={point.flops}")
    return point
