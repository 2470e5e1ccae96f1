"""One evaluation of a loaded model: the one code path behind the stage and `luhuo.evaluate`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from luhuo.core.atomic import atomic_path
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.corpus.documents import heldout
from luhuo.evaluation.compare import ITEMS
from luhuo.evaluation.families import Asking, Record, ask, summarise
from luhuo.evaluation.items import choose, choose_shots, read_items
from luhuo.evaluation.perplexity import score_texts
from luhuo.evaluation.stages import EvaluateStage
from luhuo.inference.engine import Engine
from luhuo.model.decoder import Decoder

SAMPLES_PER_LANGUAGE = 1
"""Sample conversations kept of each family and language."""


def evaluate_model(model: Decoder, settings: EvaluateStage, folder: Path) -> dict[str, Any]:
    """Score a model as `settings` say; per-item records and samples go to `folder`, the scores are returned."""
    model.eval()
    scores: dict[str, Any] = {"settings": settings.model_dump(mode="json")}
    if settings.corpus is not None:
        sources, languages = score_texts(model, heldout(settings.corpus), settings.max_text_kb * 1000)
        scores["bits_per_byte"] = {
            "sources": {name: asdict(row) for name, row in sources.items()},
            "languages": {name: asdict(row) for name, row in languages.items()},
        }
    if settings.items is not None:
        records = _ask_all(model, settings, settings.items, folder)
        scores["accuracy"] = summarise(records, settings.seed)
        scores["shots"] = _shots_note(records, settings)
        _write_samples(records, folder / "samples.jsonl")
    return scores


def _ask_all(model: Decoder, settings: EvaluateStage, items: str, folder: Path) -> list[Record]:
    shots = {}
    if settings.mode == "completion" and settings.shots:
        if settings.shots_from is None:
            raise LuhuoError(
                tr("Few-shot evaluation needs items to take examples from.", "少样本评测需要示例来源。"),
                expected="shots_from=…/dialogue/train.jsonl",
                fix=tr("Give shots_from, or shots=0.", "请提供 shots_from，或设 shots=0。"),
            )
        shots = choose_shots(read_items(settings.shots_from), settings.shots, settings.seed)
    chosen = choose(read_items(items), settings.limit, settings.seed)
    engine = Engine(model, max_batch=settings.batch)
    records: list[Record] = []
    with atomic_path(folder / ITEMS) as path, path.open("w", encoding="utf-8") as handle:
        for record in ask(engine, chosen, Asking(settings.mode, settings.max_tokens, shots)):
            handle.write(json.dumps(record, ensure_ascii=False) + "\n")
            record.pop("prompt")
            records.append(record)
    return records


def _shots_note(records: list[Record], settings: EvaluateStage) -> dict[str, int]:
    """How many examples were wanted, and on how many items fewer fitted (or existed)."""
    if settings.mode == "chat":
        return {"wanted": 0, "items_with_fewer": 0}
    fewer = sum(record["shots"] < settings.shots for record in records)
    if fewer:
        say(
            tr(
                f"{fewer} of {len(records)} prompts hold fewer than {settings.shots} examples (no room, or none).",
                f"{len(records)} 个提示中有 {fewer} 个的示例不足 {settings.shots} 个（上下文不够或没有示例）。",
            )
        )
    return {"wanted": settings.shots, "items_with_fewer": fewer}


def _write_samples(records: list[Record], path: Path) -> None:
    """The first items of each family and language: the same ones for every model asked with the same seed."""
    kept: dict[tuple[str, str], int] = {}
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        for record in records:
            group = (record["family"], record["lang"])
            kept[group] = kept.get(group, 0) + 1
            if kept[group] <= SAMPLES_PER_LANGUAGE:
                row = {key: record[key] for key in ("id", "family", "lang", "question", "answer", "reply", "correct")}
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
