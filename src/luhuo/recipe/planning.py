"""`luhuo plan`: each stage of a recipe, or one stage, with what it will take."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luhuo.core.artifact import MANIFEST, read_manifest
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.stage import Stage
from luhuo.corpus.factory.stages import AnnotateStage
from luhuo.model.config import ModelConfig
from luhuo.model.count import cache_per_token, parameters
from luhuo.recipe.schema import REFERENCE, Step, load_recipe, resolve
from luhuo.recipe.schema import plan as ordered
from luhuo.stages import configured
from luhuo.train.plan.machine import Machine
from luhuo.train.plan.training import Plan, Training
from luhuo.train.plan.training import plan as plan_training

VOCABULARY = 16_384
"""Assumed where no tokenizer says it."""

PROMPT = 512
"""Tokens of a question that evaluation is assumed to hold in its cache."""


@dataclass(frozen=True)
class Row:
    """One stage of a plan. None: not known."""

    name: str
    stage: str
    training: Plan | None
    peak: float | None
    seconds: float | None
    disk: float
    note: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found: dict[str, Any] = {"name": self.name, "stage": self.stage, "peak": self.peak, "seconds": self.seconds}
        found |= {"disk": self.disk, "note": self.note}
        if self.training is not None:
            t = self.training
            found |= {"parameters": t.parameters, "active": t.active, "tokens": t.tokens, "fits": t.fits}
            found["memory"] = t.memory.as_dict()
            found["changes"] = [{"settings": c.settings, "peak": c.peak, "seconds": c.seconds} for c in t.changes]
        return found


def plan_recipe(
    path: Path, out: Path | None, machine: Machine, *, overrides: dict[str, Any], variant: str | None = None
) -> list[Row]:
    """A row for each stage, in running order. `out`: where an earlier run may lie, whose times are then taken."""
    recipe = load_recipe(path, overrides, variant)
    folder = out or Path("runs") / recipe.name
    models: dict[str, ModelConfig] = {}
    steps = {step.name: step for step in ordered(recipe, str(path))}
    return [_row(step, steps, models, folder, machine) for step in steps.values()]


def plan_stage(name: str, values: dict[str, Any], machine: Machine) -> list[Row]:
    """The one row of a stage given by its fields; inputs that a plan does not need may be missing."""
    from luhuo.stages import stage_class

    blank = {field: "-" for field, info in stage_class(name, "luhuo plan").model_fields.items() if info.is_required()}
    step = Step(name=name, stage=name, config=blank | values, requirements=[], needs=[])
    return [_row(step, {}, {}, Path("-"), machine)]


def _row(step: Step, steps: dict[str, Step], models: dict[str, ModelConfig], folder: Path, machine: Machine) -> Row:
    stage = configured(step.stage, step.config, f"stages.{step.name}")
    last = _last_time(folder / step.name)
    if step.stage in ("pretrain", "sft"):
        training, resize, note = _training(step, stage, steps, models, folder)
        if training is None:
            return Row(step.name, step.stage, None, None, last, stage.disk_bytes(), note)
        models[step.name] = training.model
        found = plan_training(training, machine, resize=resize)
        seconds = found.seconds if found.seconds is not None else last
        return Row(step.name, step.stage, found, found.memory.peak, seconds, found.disk, note)
    peak, note = (
        None,
        tr("time of the last run", "时间取自上次运行") if last is not None else tr("time not known", "时间未知"),
    )
    if step.stage in ("annotate", "deduplicate", "filter") and last is None:
        return _corpus_row(step, stage, steps, folder)
    if step.stage == "evaluate":
        model = _model_of(step, models, folder)
        if model is not None:
            peak = _evaluation(model, getattr(stage, "batch", 1), getattr(stage, "max_tokens", 64), machine)
    return Row(step.name, step.stage, None, peak, last, _disk(stage, folder, steps), note)


def _corpus_row(step: Step, stage: Stage, steps: dict[str, Step], folder: Path) -> Row:
    """A stage of the corpus factory: a little of each source is measured, the later stages by their share of it."""
    from luhuo.corpus.factory.estimate import SHARES, estimate

    first = step
    while first.stage != "annotate":
        named = REFERENCE.fullmatch(str(first.config.get("annotated", "")))
        if named is None or named[1] not in steps:
            return Row(step.name, step.stage, None, None, None, stage.disk_bytes(), tr("time not known", "时间未知"))
        first = steps[named[1]]
    try:
        values = resolve(configured("annotate", first.config, first.name).model_dump(mode="json"), folder)
        found = estimate(AnnotateStage.model_validate(values))
    except LuhuoError:
        note = tr("time not known before its sources are there", "来源就绪之前时间未知")
        return Row(step.name, step.stage, None, None, None, stage.disk_bytes(), note)
    share = SHARES[step.stage]
    note = tr("from a little of each source, measured here", "由各来源的少量样本在本机测得")
    return Row(step.name, step.stage, None, found.memory, found.seconds * share.time, found.text * share.disk, note)


def _disk(stage: Stage, folder: Path, steps: dict[str, Step]) -> float:
    """What the stage itself says, of the folders it would read."""
    values = resolve(stage.model_dump(mode="json"), folder) if steps else stage.model_dump(mode="json")
    return float(type(stage).model_validate(values).disk_bytes())


def _last_time(folder: Path) -> float | None:
    return float(read_manifest(folder)["duration_s"]) if (folder / MANIFEST).is_file() else None


def _evaluation(model: ModelConfig, batch: int, tokens: int, machine: Machine) -> float:
    """Weights, the cache of a batch of questions, and the process; logits of one place a row."""
    from luhuo.train.plan.memory import PROCESS

    total = sum(parameters(model).values())
    cache = cache_per_token(model) * batch * (PROMPT + tokens) * 2
    return PROCESS[machine.kind] + 4 * total + cache + 8 * batch * model.vocab_size


def _training(
    step: Step, stage: Any, steps: dict[str, Step], models: dict[str, ModelConfig], folder: Path
) -> tuple[Training | None, bool, str]:
    """The stage as a `Training`, whether its size is free, and a remark."""
    from luhuo.train.sizes import derive

    given, note, settings = _model_of(step, models, folder), "", dict[str, Any]()
    if step.stage == "sft":
        if given is None:
            return None, False, tr("the model's shape is not known before it is there", "模型尚不存在，形状未知")
        rows, length, count = max(1, stage.batch // stage.length), stage.length, stage.steps
        note = "" if count else tr("the number of steps follows from the data", "步数由数据决定")
        model = given
    else:
        if getattr(stage, "objective", "causal") not in ("causal", "fim", "prefix"):
            return None, False, tr("only decoders are planned", "仅能规划解码器")
        wanted = {name: getattr(stage, name) for name in ("length", "batch", "tokens")}
        if given is None and stage.model is not None:
            return None, False, tr("the model's shape is not known before it is there", "模型尚不存在，形状未知")
        if given is None:
            vocabulary, note = _vocabulary(step, steps, folder)
            found = derive(stage.size, vocabulary, shape=stage.shape, **wanted)
        else:
            found = derive(sum(parameters(given).values()), given.vocab_size, **wanted).of(given)
        rows, length, model = max(1, round(found.batch / found.length)), found.length, found.model
        count = stage.steps or -(-found.tokens // (rows * length))
    if not isinstance(model, ModelConfig):
        return None, False, tr("only decoders are planned", "仅能规划解码器")
    settings["averaged"] = bool(stage.ema)
    for name in ("micro_batch", "optimiser", "recompute", "dtype", "background"):
        settings[name] = getattr(stage, name)
    settings["shard"] = getattr(stage, "shard", 1)
    return Training(model, rows, length, count, **settings), given is None, note


def _model_of(step: Step, models: dict[str, ModelConfig], folder: Path) -> ModelConfig | None:
    """The shape of the model a stage starts from: of an earlier stage of the plan, or of a directory."""
    value = step.config.get("model")
    if not value or value == "-":
        return None
    names = REFERENCE.findall(str(value))
    if names and names[0] in models:
        return models[names[0]]
    from luhuo.files.references import resolve as locate
    from luhuo.model.families import read_config
    from luhuo.model.load import read_values

    try:
        root = locate(str(resolve(value, folder)), weights=False).path
        found = read_config(read_values(root), root / "config.json")
    except LuhuoError:
        return None
    return found if isinstance(found, ModelConfig) else None


def _vocabulary(step: Step, steps: dict[str, Step], folder: Path) -> tuple[int, str]:
    """Number of tokens of the tokenizer a stage will use, and a remark where it is assumed."""
    value = str(step.config.get("tokenizer", "-"))
    names = REFERENCE.findall(value)
    if names and names[0] in steps and steps[names[0]].stage == "tokenizer":
        made = configured("tokenizer", steps[names[0]].config, names[0])
        return int(made.vocab_size), ""  # type: ignore[attr-defined]
    root = Path(str(resolve(value, folder)))
    if (root / "tokenizer.json").is_file():
        from luhuo.tokenizer.tokenizer import Tokenizer

        return Tokenizer.load(root).vocab_size, ""
    return VOCABULARY, tr(f"a vocabulary of {VOCABULARY:,} is assumed", f"假定词表为 {VOCABULARY:,}")


def as_json(machine: Machine, rows: list[Row]) -> str:
    """The plan as JSON text."""
    described = {
        name: getattr(machine, name) for name in ("name", "count", "memory", "rate", "utilisation", "measured")
    }
    return json.dumps({"machine": described, "stages": [row.as_dict() for row in rows]}, ensure_ascii=False, indent=2)
