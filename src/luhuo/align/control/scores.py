"""The stage `control-scores`: the share of answers that are what was asked for, beside those that were not asked."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from luhuo.adapter.open import open_decoder
from luhuo.align.control.config import ColumnAttribute, parse_attributes
from luhuo.align.control.reading import Classes, Reader, Told, reader
from luhuo.align.control.text import asked
from luhuo.align.control.write import described
from luhuo.align.ledger import Ledger, groups
from luhuo.core.artifact import Workspace
from luhuo.core.atomic import write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import Progress, say
from luhuo.core.seeds import derive_seed
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.judged import Prompt
from luhuo.dialogue.prompts import read_prompts
from luhuo.files.readers import list_files
from luhuo.files.references import resolve
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.verify.statistics import paired_difference, wilson

if TYPE_CHECKING:
    from luhuo.align.control.stages import ControlScoresStage

ANSWERS = "answers.jsonl"


def score_control(stage: ControlScoresStage, out: Workspace) -> None:
    """Write `answers.jsonl` and `scores.json` into `out`."""
    readers, kinds = _readers(stage)
    given = [stage.prompts] if isinstance(stage.prompts, str) else stage.prompts
    files = [file for value in given for file in list_files(resolve(value).path)]
    prompts = [prompt for file in files for prompt in read_prompts(file)[1]]
    random.Random(derive_seed(stage.seed, "prompts")).shuffle(prompts)
    prompts = prompts[: stage.limit or None]
    engine = Engine(open_decoder(stage.model, dtype=stage.dtype, device=stage.device), max_batch=stage.at_once)
    ledger = Ledger(out.path / ANSWERS)
    with Progress(tr("asking", "提问"), len(prompts), tr("prompts", "提示")) as progress:
        for group in groups(enumerate(prompts), max(1, stage.at_once // 2)):
            ledger.append(_answers(stage, engine, group, readers, kinds))
            progress.advance(len(group))
    scores = summary(list(ledger), kinds, stage.seed)
    write_json(out.path / "scores.json", scores)
    for name, found in scores.items():
        out.results |= {f"{name}.{key}": found[key] for key in ("obeyed", "low", "high", "without")}
        say(
            tr(
                f"{name}: {found['obeyed']:.1%} obeyed ({found['low']:.1%} to {found['high']:.1%}), "
                f"{found['without']:.1%} without being asked",
                f"{name}：遵从 {found['obeyed']:.1%}（{found['low']:.1%} 至 {found['high']:.1%}），"
                f"未要求时为 {found['without']:.1%}",
            )
        )


def _readers(stage: ControlScoresStage) -> tuple[dict[str, Reader], dict[str, Classes]]:
    """What reads each attribute that can be asked for, and the classes it is asked to be of."""
    found = list(described(resolve(stage.control).path))
    attributes = parse_attributes([config for config, _ in found], stage.control)
    kinds = {a.name: one for a, (_, one) in zip(attributes, found, strict=True) if not isinstance(a, ColumnAttribute)}
    for name, wanted in stage.ask.items():
        if name not in kinds or not wanted or not set(wanted) <= set(kinds[name].names):
            raise LuhuoError(
                tr("This cannot be asked for.", "无法提出这一要求。"),
                expected="; ".join(f"{known}: {', '.join(one.names)}" for known, one in kinds.items()),
                found=f"{name}: {', '.join(wanted)}",
                where="ask",
            )
    if not kinds:
        raise LuhuoError(tr("No attribute can be read from an answer.", "没有可从回答中读出的属性。"), where="control")
    return {a.name: reader(a) for a in attributes if a.name in kinds}, kinds


def _answers(
    stage: ControlScoresStage,
    engine: Engine,
    group: Sequence[tuple[int, Prompt]],
    readers: Mapping[str, Reader],
    kinds: Mapping[str, Classes],
) -> list[dict[str, Any]]:
    """Each prompt's two answers, and what they are like."""
    wishes = [_wish(stage, kinds, number) for number, _ in group]
    asks = [
        Conversation.of(asked(prompt.prompt.plain(), control), tools=prompt.prompt.tools)
        for (_, prompt), wish in zip(group, wishes, strict=True)
        for control in (wish, {})
    ]
    sampling = [
        Sampling(max_tokens=stage.max_tokens, temperature=stage.temperature, seed=derive_seed(stage.seed, number))
        for number, _ in group
        for _ in range(2)
    ]
    texts = [completion.text for completion in engine.generate(asks, sampling)]
    told = [
        Told(prompt.item, prompt.prompt.plain(), [text])
        for (_, prompt), pair in zip(group, groups(texts, 2), strict=True)
        for text in pair
    ]
    read = {name: [kinds[name].of(raw) for raw in readers[name](told)] for name in readers}
    return [
        {
            "prompt": prompt.prompt.plain(),
            "asked": wish,
            "answer": texts[2 * i],
            "is": {name: found[2 * i] for name, found in read.items()},
            "without": {"answer": texts[2 * i + 1], "is": {name: found[2 * i + 1] for name, found in read.items()}},
        }
        for i, ((_, prompt), wish) in enumerate(zip(group, wishes, strict=True))
    ]


def _wish(stage: ControlScoresStage, kinds: Mapping[str, Classes], number: int) -> dict[str, str]:
    """A class of each attribute, by chance."""
    chance = random.Random(derive_seed(stage.seed, "wish", number))
    wanted = {name: stage.ask.get(name) or kinds[name].names for name in kinds if not stage.ask or name in stage.ask}
    return {name: chance.choice(list(names)) for name, names in wanted.items()}


def summary(rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, Classes], seed: int) -> dict[str, Any]:
    """By attribute the share of answers that are of the class asked for with its 95% interval, the share that is so
    without being asked, the difference of the two over the same prompts, and the shares by class. "all": every
    attribute at once. An answer of which an attribute cannot be read did not obey.
    """
    hits: dict[str, list[tuple[str, bool, bool]]] = defaultdict(list)
    for row in rows:
        each = [
            (name, value, row["is"][name] == value, row["without"]["is"][name] == value)
            for name, value in row["asked"].items()
        ]
        for name, value, obeyed, anyway in each:
            hits[name].append((value, obeyed, anyway))
        hits["all"].append(("", all(one[2] for one in each), all(one[3] for one in each)))
    found = {name: _shares(pairs, seed) for name, pairs in hits.items() if name != "all"}
    for name in found:
        by_class = {value: [pair for pair in hits[name] if pair[0] == value] for value in kinds[name].names}
        found[name]["classes"] = {value: _shares(pairs, seed) for value, pairs in by_class.items() if pairs}
    return found | {"all": _shares(hits["all"], seed)}


def _shares(pairs: Sequence[tuple[str, bool, bool]], seed: int) -> dict[str, Any]:
    count, obeyed = len(pairs), [float(pair[1]) for pair in pairs]
    anyway = [float(pair[2]) for pair in pairs]
    low, high = wilson(int(sum(obeyed)), count)
    gain = paired_difference(anyway, obeyed, seed)
    return {
        "n": count,
        "obeyed": sum(obeyed) / count,
        "low": low,
        "high": high,
        "without": sum(anyway) / count,
        "gain": {"difference": gain.difference, "low": gain.low, "high": gain.high, "p_value": gain.p_value},
    }
