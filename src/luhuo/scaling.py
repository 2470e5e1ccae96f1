"""`luhuo scaling`: from a recipe and a budget to a grid of small runs, the law that fits them, and what it recommends.

The recipe's stages up to its shards run as they are, then the grid with the settings of its pretraining stage. Every
ladder of the grid is an artifact under `OUT/scaling`; the same command continues, and a finished ladder is never
trained again.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from luhuo.core.artifact import Done, produce
from luhuo.core.atomic import write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.recipe import runner
from luhuo.recipe.schema import Recipe, Step, load_recipe, plan, resolve
from luhuo.stages import configured
from luhuo.train.scaling.budget import Budget, parse_budget, parse_machine

GRID = "grid.json"


def scaling(
    recipe: Path,
    budget: str,
    *,
    targets: list[str] | None = None,
    machine: str = "",
    stage: str | None = None,
    check: float = 3.0,
    out: Path | None = None,
    overrides: dict[str, Any] | None = None,
    variant: str | None = None,
) -> Done:
    """Run the grid, fit the law and print it; the artifact of the law, with `law.json` and `report.html`.

    budget: what the grid may cost, FLOPs or time. targets: budgets to recommend for (default: 100 times the grid's).
    machine: what time among the targets is spent on. stage: which pretrain stage; the last by default. check: compute
    of a run that the law has to predict, relative to the grid's largest; 0 for none. Raises `LuhuoError`.
    """
    wanted = parse_budget(budget)
    for text in targets or []:
        parse_budget(text, "--target")
    parse_machine(machine)
    if check and check < 1:
        raise LuhuoError(
            tr("The run to predict must be larger than the grid.", "检验运行须大于网格。"),
            expected=tr("0, or at least 1", "0 或不小于 1"),
            found=check,
            where="--check",
        )
    loaded = load_recipe(recipe, overrides, variant)
    steps = plan(loaded, str(recipe))
    base = _pretrain(steps, stage, recipe)
    folder = out or Path("runs") / loaded.name
    for step in _before(steps, base):
        runner.run(recipe, folder, overrides=overrides, variant=variant, only=step.name)
    runs, held_out, grid = _climb(base, folder, wanted, check)
    values = {
        "runs": runs,
        "held_out": held_out,
        "targets": targets or [f"{100 * grid['flops']:.1e}"],
        "machine": machine,
        "seed": loaded.seed,
    }
    done = produce("scaling-law", configured("scaling-law", values, "luhuo scaling"), folder / "scaling" / "law")
    _print(done, recipe, loaded)
    return done


def _pretrain(steps: list[Step], name: str | None, recipe: Path) -> Step:
    found = [step for step in steps if step.stage == "pretrain" and name in (None, step.name)]
    if not found:
        raise LuhuoError(
            tr("The recipe has no such pretraining stage.", "配方里没有这样的预训练阶段。"),
            expected="stage: pretrain",
            found=name,
            where=recipe,
        )
    return found[-1]


def _before(steps: list[Step], base: Step) -> list[Step]:
    """The steps that shards and tokenizer are made by, in order. A model to go on from is not needed: all sizes start
    from nothing."""
    named = {step.name: step for step in steps}
    wanted = [name for name in base.needs if f"${{{name}}}" in (base.config["shards"], base.config["tokenizer"])]
    found: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name not in found:
            found.add(name)
            wanted += named[name].needs
    return [step for step in steps if step.name in found]


def _climb(base: Step, folder: Path, budget: Budget, check: float) -> tuple[list[str], list[str], dict[str, Any]]:
    """Train what the grid lacks: folders of the ladders, of the run to predict, and the grid's summary."""
    from luhuo.tokenizer.tokenizer import Tokenizer
    from luhuo.train.scaling.grid import Grid, lay, prober
    from luhuo.train.scaling.stages import ScalingRunStage, options_of

    options = options_of(resolve(base.config, folder))
    template = ScalingRunStage.parse(options | {"rungs": [1]}, where=f"stages.{base.name}")
    vocab = Tokenizer.load(template.tokenizer).vocab_size
    request = {"budget": asdict(budget), "check": check, "options": options, "vocab_size": vocab}
    place = folder / "scaling"
    kept = _kept(place / GRID, request)
    if kept is None:
        probe = prober(template) if budget.seconds is not None else None
        kept = lay(budget, template, vocab, check=check, probe=probe).as_dict()
        write_json(place / GRID, {"request": request, "grid": kept})
    grid = Grid.of(kept)
    ladders = [*grid.runs, *([grid.check] if grid.check else [])]
    say(
        tr(
            f"{len(grid.runs)} sizes, {sum(len(run.rungs) for run in grid.runs)} runs, {grid.flops:.2e} FLOPs:",
            f"{len(grid.runs)} 种规模，{sum(len(run.rungs) for run in grid.runs)} 次运行，{grid.flops:.2e} FLOPs：",
        )
    )
    folders = []
    for run in ladders:
        name = run.name if run is not grid.check else f"check-{run.parameters}"
        say(f"  {name}: {', '.join(f'{rung:,}' for rung in run.rungs)}")
        values = options | {"size": str(run.size), "rungs": run.rungs}
        produce("scaling-run", configured("scaling-run", values, name), place / name)
        folders.append(str(place / name))
    return folders[: len(grid.runs)], folders[len(grid.runs) :], {"flops": grid.flops}


def _kept(path: Path, request: dict[str, Any]) -> dict[str, Any] | None:
    """The grid that an earlier call laid for the same request: measured rates, and so time budgets, never repeat."""
    if not path.is_file():
        return None
    value = json.loads(path.read_text(encoding="utf-8"))
    return value["grid"] if value["request"] == json.loads(json.dumps(request)) else None


def _print(done: Done, recipe: Path, loaded: Recipe) -> None:
    law = json.loads((done.path / "law.json").read_text(encoding="utf-8"))
    constants = law["law"]
    print(f"{loaded.name} ({recipe})")
    print(
        f"L(N, D) = {constants['E']:.3f} + {constants['A']:.4g} / N^{constants['alpha']:.3f}"
        f" + {constants['B']:.4g} / D^{constants['beta']:.3f}"
    )
    for text in law["words"]:
        print(f"  {tr(text['en'], text['zh'])}")
    print(tr("Report:", "报告："), done.path / "report.html")
