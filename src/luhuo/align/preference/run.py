"""One run of a preference stage: data to units, reference, training, held-out scores, the result."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from luhuo.align.log_probs import by_rows
from luhuo.align.policy import keep_policy, open_policy
from luhuo.align.preference import comments, rendering
from luhuo.align.preference.judged import prepare_judged
from luhuo.align.preference.kto import KTO
from luhuo.align.preference.objective import PairObjective
from luhuo.align.preference.pairs import prepare_pairs
from luhuo.align.preference.ranked import prepare_ranked
from luhuo.align.preference.reference import add_references, live_of, weights_digest
from luhuo.align.preference.rendering import Prepared
from luhuo.align.preference.rrhf import RRHF
from luhuo.align.preference.units import UnitLoader, Units
from luhuo.align.stages import note_sources
from luhuo.core.artifact import Workspace
from luhuo.core.device import pick_dtype
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.readers import list_files
from luhuo.files.records import Broken
from luhuo.files.references import resolve
from luhuo.model.decoder import Decoder
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.train.parallel import spread, whole
from luhuo.train.ranks import Ranks
from luhuo.train.samples import sampler
from luhuo.train.trainer import Trainer

if TYPE_CHECKING:
    from luhuo.align.preference_stages import PreferenceStage

REFERENCES = ".reference"
"""Folder of the reference's log-probabilities: hidden, so no payload."""


def run_preference(stage: PreferenceStage, out: Workspace, device: torch.device) -> None:
    """Train as `stage` says and write the result into `out`, continuing what lies there."""
    ranks, title = Ranks(), type(stage).__name__.removesuffix("Stage").lower()
    model = open_policy(stage, "cpu", stage.seed)
    tokenizer = checked(model.tokenizer, stage.model)
    limit = min(stage.limit, model.config.max_positions + 1)
    data = [stage.data] if isinstance(stage.data, str) else stage.data
    files = [file for value in data for file in list_files(resolve(value).path)]
    note_sources(files, out)
    with quarantine(out, ranks) as reject:
        prepared = _prepare(stage, files, tokenizer, limit, reject, stage.seed if stage.shuffle_labels else None)
        held = None
        if stage.valid:
            held = _prepare(stage, list_files(resolve(stage.valid).path), tokenizer, limit, reject, None)
    if ranks.main:
        comments.announce(prepared, tokenizer)

    objective = stage.objective(None)
    dtype = pick_dtype(stage.dtype, device)
    has_reference = objective.has_reference
    ahead = has_reference and getattr(stage, "reference_log_probs", "") == "ahead"
    if has_reference and not ahead:
        objective = stage.objective(live_of(model.to(device)))
    weights = weights_digest(model) if ahead else ""
    model = spread(model.to(device), stage.parallel, dtype)
    model.compute_in(None if dtype == torch.float32 else dtype)
    if ahead:
        for one in (prepared, held):
            if one is not None:
                add_references(model, one.units, out.path / REFERENCES, weights, ranks)

    options: dict[str, Any] = {"seed": stage.seed, "pad_id": tokenizer.pad_id}
    length = stage.length or prepared.units.row_length()
    batch = min(stage.batch, len(prepared.units))
    loader = UnitLoader(prepared.units, batch=batch, length=length, rank=ranks.rank, world=ranks.count, **options)
    config = stage.trainer_config(steps=stage.steps or loader.steps(stage.epochs))
    evaluate = held_out(objective, held.units, batch, options) if held else None
    trainer = Trainer(
        model,
        objective,
        loader,
        config,
        out,
        evaluate=evaluate,
        sample=sampler(config, stage.seed, chat=True),
        title=title,
    )
    metrics = trainer.run()
    finished = whole(model)
    if finished is None:
        return
    keep_policy(finished, out.path)
    trainer.clean()
    comments.look_back(out)
    names = ("loss", "accuracy", "rewards.margin", "log_probs.chosen", "tokens_per_s")
    out.results |= {name: metrics[name] for name in names if name in metrics}
    out.results |= {name: value for name, value in metrics.items() if name.startswith("valid.")}
    out.results |= {"steps": config.steps, "units": len(prepared.units), "tokens": prepared.tokens}
    out.results |= {f"rows.{name}": count for name, count in sorted(prepared.counts.items())}


def held_out(
    objective: PairObjective | KTO | RRHF, units: Units, batch: int, options: dict[str, Any]
) -> Callable[[Decoder], dict[str, float]]:
    """A scorer for the trainer: the objective's own numbers on held-out units, `valid.loss`, `valid.accuracy`, …"""
    loader = UnitLoader(units, batch=min(batch, len(units)), length=units.row_length(), **options)
    edges = [*range(0, len(units), min(batch, len(units))), len(units)]
    if len(edges) > 2 and edges[-1] - edges[-2] == 1:  # of one answer alone KTO has no baseline
        edges.pop(-2)

    def score(model: Decoder) -> dict[str, float]:
        totals: dict[str, float] = {}
        weight = 0.0
        for start, end in itertools.pairwise(edges):
            arrays = loader.assemble(range(start, end))
            given = {name: torch.from_numpy(array).to(model.device) for name, array in arrays.items()}
            for part in by_rows(objective.prepare(model, given), model.device):
                loss, count, metrics = objective.loss(model, part)
                for name, value in {"loss": loss, **metrics}.items():
                    totals[name] = totals.get(name, 0.0) + value.item()
                weight += count.item()
        return {f"valid.{name}": value / weight for name, value in totals.items()}

    return score


def checked(tokenizer: Tokenizer | None, where: str) -> Tokenizer:
    """The model's tokenizer. Raises `LuhuoError` if it has none."""
    if tokenizer is None:
        raise LuhuoError(
            tr("The model has no tokenizer.", "该模型没有分词器。"), expected="tokenizer.json", where=where
        )
    return tokenizer


@contextmanager
def quarantine(out: Workspace, ranks: Ranks) -> Iterator[Callable[[Broken], None]]:
    """A function that writes rows that cannot be used into quarantine.jsonl, with the reason."""
    with Path(out.path / "quarantine.jsonl" if ranks.main else os.devnull).open("w", encoding="utf-8") as handle:

        def write(row: Broken) -> None:
            line = {"source": row.file, "line": row.line, "reason": row.reason, "excerpt": row.excerpt}
            handle.write(json.dumps(line, ensure_ascii=False) + "\n")

        yield write


def _prepare(
    stage: PreferenceStage,
    files: list[Path],
    tokenizer: Tokenizer,
    limit: int,
    reject: Callable[[Broken], None],
    shuffle_seed: int | None,
) -> Prepared:
    rules: dict[str, Any] = {"overlong": stage.overlong, "quarantine": reject, "shuffle_seed": shuffle_seed}
    objective = stage.objective(None)
    if isinstance(objective, KTO):
        prepared = prepare_judged(files, tokenizer, limit, seed=stage.seed, **rules)
    elif isinstance(objective, RRHF):
        prepared = prepare_ranked(files, tokenizer, limit, **rules)
    else:
        prepared = prepare_pairs(files, tokenizer, limit, learn_prompt=getattr(stage, "learn_prompt", False), **rules)
    rendering.check(prepared)
    return prepared
