"""Running a recipe: skip what is unchanged, continue what was cut off, stop where a requirement is missed."""

from __future__ import annotations

import gc
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luhuo.core import artifact
from luhuo.core.atomic import write_json
from luhuo.core.config import unknown_key
from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.core.stage import Stage
from luhuo.recipe.schema import Recipe, Step, load_recipe, plan, resolve
from luhuo.report.curve import live_curve
from luhuo.report.write import write_report
from luhuo.stages import configured


@dataclass
class Outcome:
    """What a run did: rows of the summary table, and the folder with everything in it."""

    out: Path
    recipe: str
    next_command: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    failure: str | None = None


def run(
    recipe: str | Path,
    out: str | Path | None = None,
    *,
    overrides: dict[str, Any] | None = None,
    variant: str | None = None,
    start: str | None = None,
    only: str | None = None,
    force: bool = False,
) -> Outcome:
    """Run a recipe into the folder `out` (default `runs/NAME`), with a report and `summary.json`.

    start: make this stage and everything after it anew. only: run this one stage; its inputs must be there.
    Raises `LuhuoError` (bad input), `RunFailed`, `RequirementMissed`; finished stages are kept in every case.
    """
    loaded, steps = _prepare(recipe, overrides, variant)
    folder = Path(out) if out else Path("runs") / loaded.name
    forced = _forced(steps, start, force)
    chosen = [step for step in steps if only in (None, step.name)]
    if not chosen:
        raise unknown_key(str(only), [s.name for s in steps], str(recipe), tr("stage", "阶段"))
    outcome = Outcome(folder, loaded.name, resolve(loaded.next, folder))
    folder.mkdir(parents=True, exist_ok=True)
    with artifact.locked(folder / ".lock"):
        _check_disk(chosen, folder)
        try:
            for step in chosen:
                outcome.rows.append(_run_step(step, folder, step.name in forced))
                _check_requirements(step, outcome.rows[-1])
        except LuhuoError as error:
            outcome.failure = str(error)
            raise
        finally:
            if outcome.rows:
                if only is not None:
                    outcome.rows = _rows_of_all(steps, folder, outcome.rows[0])
                _write_summary(outcome, steps, loaded.seed)
    return outcome


def dry_run(
    recipe: str | Path,
    out: str | Path | None = None,
    *,
    overrides: dict[str, Any] | None = None,
    variant: str | None = None,
) -> list[tuple[str, str, str]]:
    """(name, stage, "run" | "reuse" | "depends") for each step, without running anything."""
    loaded, steps = _prepare(recipe, overrides, variant)
    folder = Path(out) if out else Path("runs") / loaded.name
    rows: list[tuple[str, str, str]] = []
    changed: set[str] = set()
    for step in steps:
        if changed.intersection(step.needs):
            state = "depends"
        else:
            key = artifact.current_key(step.stage, _configured(step, folder))
            state = "reuse" if artifact.is_current(folder / step.name, key) else "run"
        if state != "reuse":
            changed.add(step.name)
        rows.append((step.name, step.stage, state))
    return rows


def _configured(step: Step, folder: Path) -> Stage:
    return configured(step.stage, resolve(step.config, folder), f"stages.{step.name}")


def _prepare(recipe: str | Path, overrides: dict[str, Any] | None, variant: str | None) -> tuple[Recipe, list[Step]]:
    loaded = load_recipe(recipe, overrides, variant)
    return loaded, plan(loaded, str(recipe))


def _forced(steps: list[Step], start: str | None, force: bool) -> set[str]:
    """Names of the steps to make anew: all with `force`; with `start`, that one and what depends on it."""
    if force:
        return {step.name for step in steps}
    if start is None:
        return set()
    if start not in {step.name for step in steps}:
        raise unknown_key(start, [s.name for s in steps], "--from", tr("stage", "阶段"))
    forced = {start}
    for step in steps:
        if forced.intersection(step.needs):
            forced.add(step.name)
    return forced


def _check_disk(steps: list[Step], folder: Path) -> None:
    missing = [step for step in steps if not (folder / step.name / artifact.MANIFEST).is_file()]
    needed = sum(_configured(step, folder).disk_bytes() for step in missing)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunFailed(
            tr("There is not enough disk space for this recipe.", "磁盘空间不足以运行此配方。"),
            expected=f"{needed / 1e6:,.0f} MB",
            found=f"{free / 1e6:,.0f} MB",
            where=folder.absolute(),
            fix=tr("Free some space, or choose another --out.", "腾出空间，或换一个 --out。"),
        )


def _run_step(step: Step, folder: Path, force: bool) -> dict[str, Any]:
    say(f"[{step.name}] {step.stage}")
    clock = time.perf_counter()
    stage = _configured(step, folder)
    done = artifact.produce(step.stage, stage, folder / step.name, force=force, watch=live_curve)
    gc.collect()
    state = tr("unchanged", "未变") if done.reused else f"{time.perf_counter() - clock:.1f} s"
    say(f"[{step.name}] {state}")
    return _row(step, done.manifest, done.reused)


def _row(step: Step, manifest: dict[str, Any], reused: bool) -> dict[str, Any]:
    return {
        "name": step.name,
        "stage": step.stage,
        "reused": reused,
        "seconds": manifest["duration_s"],
        "bytes": sum(entry["bytes"] for entry in manifest["files"].values()),
        "digest": manifest["digest"],
        "metrics": manifest["metrics"],
    }


def _rows_of_all(steps: list[Step], folder: Path, made: dict[str, Any]) -> list[dict[str, Any]]:
    """The row of the one stage that ran, among those of the finished stages beside it."""
    rows = []
    for step in steps:
        if step.name == made["name"]:
            rows.append(made)
        elif (folder / step.name / artifact.MANIFEST).is_file():
            rows.append(_row(step, artifact.read_manifest(folder / step.name), reused=True))
    return rows


def _check_requirements(step: Step, row: dict[str, Any]) -> None:
    for requirement in step.requirements:
        requirement.check(row["metrics"], step.name)


def _write_summary(outcome: Outcome, steps: list[Step], seed: int) -> None:
    requirements = [
        {"stage": step.name, "metric": r.metric, "required": f"{r.comparison} {r.bound:g}"}
        for step in steps
        for r in step.requirements
    ]
    summary = {
        "recipe": outcome.recipe,
        "seed": seed,
        "seconds": round(sum(row["seconds"] for row in outcome.rows), 1),
        "failure": outcome.failure,
        "requirements": requirements,
        "stages": {row["name"]: {k: v for k, v in row.items() if k != "name"} for row in outcome.rows},
        "next": outcome.next_command,
    }
    write_json(outcome.out / "summary.json", summary)
    write_report(outcome.out, outcome.recipe)
