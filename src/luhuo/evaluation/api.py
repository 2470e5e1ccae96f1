"""`luhuo.evaluate`: the stage's code path on a model that is already in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from luhuo.adapter.open import open_decoder
from luhuo.core.config import unknown_key
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.evaluation.run import evaluate_model
from luhuo.evaluation.stages import EvaluateStage
from luhuo.model.decoder import Decoder

TASKS = ("world",)


def evaluate(
    model: Decoder | str | Path,
    tasks: Sequence[str] = TASKS,
    data: Mapping[str, str | Path] | None = None,
    limit: int = 200,
    **settings: Any,
) -> dict[str, Any]:
    """Scores with intervals of a model (or the reference of one) on tasks whose data lie in `data[task]`.

    Task "world": `data["world"]` is the folder a `world` stage wrote. `settings` are fields of the stage `evaluate`.
    Raises `LuhuoError` for an unknown task or missing data.
    """
    for task in tasks:
        if task not in TASKS:
            raise unknown_key(task, list(TASKS), None, tr("task", "任务"))
    if not data or "world" not in data:
        raise LuhuoError(tr("The task needs its data.", "任务需要数据。"), expected='data={"world": DIR}')
    dialogue = Path(data["world"]) / "dialogue"
    known = {"items": str(dialogue / "test.jsonl"), "shots_from": str(dialogue / "train.jsonl"), "limit": limit}
    stage = EvaluateStage.parse({"model": str(model) if not isinstance(model, Decoder) else "", **known, **settings})
    loaded = model if isinstance(model, Decoder) else open_decoder(model, dtype=stage.dtype, device=stage.device)
    with tempfile.TemporaryDirectory() as folder:
        return evaluate_model(loaded, stage, Path(folder))
