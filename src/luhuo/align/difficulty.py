"""How much an instruction helps a model to its answer (Li et al. 2023, "From Quantity to Quality", equation 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from luhuo.adapter.open import open_decoder
from luhuo.align.difficulty_stages import DifficultyStage
from luhuo.align.ledger import Ledger, groups
from luhuo.core.artifact import Workspace
from luhuo.core.atomic import write_json
from luhuo.core.device import use_threads
from luhuo.core.language import tr
from luhuo.core.progress import track
from luhuo.dialogue.clean.samples import Sample, read_samples
from luhuo.dialogue.render import render
from luhuo.files.references import resolve
from luhuo.inference.engine import Engine


def measure(stage: DifficultyStage, out: Workspace) -> None:
    """See `DifficultyStage`."""
    use_threads()
    model = open_decoder(stage.model, dtype=stage.dtype, device=stage.device)
    engine = Engine(model)
    ledger = Ledger(out.path / "difficulty.jsonl")
    rows = islice(_samples(stage), ledger.count, None)
    for group in groups(track(rows, tr("difficulty", "难度"), unit=tr("rows", "行")), stage.together):
        ledger.append(scored(engine, group, stage.tokens))
    values = np.array([row["ifd"] for row in ledger if row["ifd"] is not None])
    report = {
        "rows": ledger.count,
        "scored": len(values),
        "not_helped": int((values >= 1).sum()),
        "quantiles": [round(float(q), 4) for q in np.quantile(values, (0.1, 0.5, 0.9))] if len(values) else [],
    }
    write_json(out.path / "report.json", report)
    out.results |= {"rows.scored": len(values), "not_helped": report["not_helped"]}


def scored(engine: Engine, samples: Sequence[Sample], tokens: int) -> list[dict[str, object]]:
    """{"key", "ifd", "conditioned", "alone", "file", "line"} of each row, losses in nats a token of the answer; None
    where there is no answer."""
    pairs: list[tuple[Sequence[int], Sequence[int]]] = []
    answers = []
    for sample in samples:
        answer = engine.tokenizer.encode(sample.answer)[:tokens]
        answers.append(answer)
        if answer:
            room = max(1, engine.context - len(answer))
            pairs += [(_prompt(engine, sample)[-room:], answer), (engine.prompt_ids(""), answer)]
    found = iter(engine.loglikelihood(pairs) if pairs else ())
    rows = []
    for sample, answer in zip(samples, answers, strict=True):
        row: dict[str, object] = {"key": sample.key, "ifd": None, "file": sample.file, "line": sample.line}
        if answer:
            conditioned, alone = (-next(found)[0] / len(answer) for _ in range(2))
            row |= {"conditioned": round(conditioned, 5), "alone": round(alone, 5)}
            row["ifd"] = round(conditioned / alone, 5) if alone > 0 else 1.0
        rows.append(row)
    return rows


def _prompt(engine: Engine, sample: Sample) -> list[int]:
    """What stands before the last answer, through the chat template; without one, the question and a line end."""
    if engine.tokenizer.chat_template is None:
        return engine.tokenizer.encode_prompt(sample.question + "\n")
    roles = [message.role for message in sample.conversation.messages]
    last = len(roles) - 1 - roles[::-1].index("assistant")
    return render(sample.conversation.until(last), engine.tokenizer, generation_prompt=True).ids


def _samples(stage: DifficultyStage) -> Iterator[Sample]:
    for path in stage.data:
        yield from read_samples(resolve(path).path, lambda _: None)[1]
