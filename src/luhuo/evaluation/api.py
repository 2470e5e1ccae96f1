"""`luhuo.evaluate`: the stage's code paths on a model that is already in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from luhuo.adapter.open import open_decoder
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.evaluation.asking import AskSettings
from luhuo.evaluation.benchmark import benchmark
from luhuo.evaluation.run import evaluate_model
from luhuo.evaluation.runner import Subject, model_digest
from luhuo.evaluation.stages import EvaluateStage
from luhuo.inference.engine import Engine
from luhuo.model.decoder import Decoder

WORLD = "world"


def evaluate(
    model: Decoder | str | Path,
    tasks: Sequence[str] = (WORLD,),
    data: Mapping[str, str | Path] | None = None,
    limit: int | None = None,
    out: str | Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Scores with intervals of a model (or the reference of one) on tasks whose data lie in `data[task]`.

    Task "world", asked alone: `data["world"]` is the folder a `world` stage wrote, `limit` counts items of a family
    (200), `settings` are fields of the stage `evaluate`. Otherwise tasks are benchmarks (`luhuo tasks`) or files,
    `limit` counts items of a task (all), `settings` are those of `AskSettings` with `seed`, `dtype` and `device`, and
    the rows and reports go to `out`. Raises `LuhuoError` for an unknown task or missing data.
    """
    places = {name: str(place) for name, place in (data or {}).items()}
    with tempfile.TemporaryDirectory() as folder:
        if list(tasks) == [WORLD]:
            return _families(model, places, limit, settings, Path(folder))
        return _benchmarks(model, tasks, places, {"limit": limit, **settings}, Path(out or folder))


def _families(
    model: Decoder | str | Path, data: Mapping[str, str], limit: int | None, settings: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """The families of the world."""
    if WORLD not in data:
        raise LuhuoError(tr("The task needs its data.", "任务需要数据。"), expected='data={"world": DIR}')
    dialogue = Path(data[WORLD]) / "dialogue"
    known = {"items": str(dialogue / "test.jsonl"), "shots_from": str(dialogue / "train.jsonl"), "limit": limit or 200}
    stage = EvaluateStage.parse({"model": str(model) if not isinstance(model, Decoder) else "", **known, **settings})
    loaded = model if isinstance(model, Decoder) else open_decoder(model, dtype=stage.dtype, device=stage.device)
    return evaluate_model(loaded, stage, folder)


def _benchmarks(
    model: Decoder | str | Path,
    tasks: Sequence[str],
    data: Mapping[str, str],
    settings: dict[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """Tasks. What a model in memory gives is not kept: it has no digest by which it could be found again."""
    seed, dtype, device = settings.pop("seed", 0), settings.pop("dtype", "auto"), settings.pop("device", "auto")
    ask = AskSettings.parse(settings)
    name = "" if isinstance(model, Decoder) else str(model)
    loaded = model.eval() if isinstance(model, Decoder) else open_decoder(model, dtype=dtype, device=device)
    digest = None if isinstance(model, Decoder) else model_digest(str(model), loaded)
    subject = Subject(Engine(loaded), digest)
    return benchmark(subject, tasks, data, ask, seed=seed, folder=folder, model=name)
