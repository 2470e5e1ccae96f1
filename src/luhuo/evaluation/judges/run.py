"""What the stages `judge` and `judge-validation` do."""

from __future__ import annotations

import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from luhuo.core.artifact import Workspace
from luhuo.core.atomic import atomic_path, write_json, write_text
from luhuo.core.config import unknown_key
from luhuo.core.errors import LuhuoError, RequirementMissed
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.evaluation.agreement import majority
from luhuo.evaluation.judges.answers import Answered, pairs_of, read_answers, read_questions, spread, turns_of
from luhuo.evaluation.judges.calls import Calls
from luhuo.evaluation.judges.config import JudgeConfig
from luhuo.evaluation.judges.human import read_set
from luhuo.evaluation.judges.judge import Judge, open_judge
from luhuo.evaluation.judges.page import judge_page, validation_page
from luhuo.evaluation.judges.pairwise import Judged, judge_pairs, position_bias, standing
from luhuo.evaluation.judges.rubric import Kind
from luhuo.evaluation.judges.stages import JudgeStage, JudgeValidationStage
from luhuo.evaluation.judges.validate import between, recorded, validate
from luhuo.evaluation.judges.win_rate import Annotation, length_controlled, win_rate
from luhuo.evaluation.ratings import bounded, bradley_terry, components, count
from luhuo.evaluation.votes import Vote
from luhuo.verify.statistics import bootstrap_mean

JUDGED = "judged.jsonl"


def run_validation(stage: JudgeValidationStage, out: Workspace) -> None:
    """Every judge on every set of a kind that it can judge. Raises `LuhuoError` where a judge fits no set."""
    _check_names(stage.judges)
    groups = [read_set(one.name, one.path, stage.limit) for one in stage.data]
    table, agreed, unable = [], [], []
    with contextlib.closing(Calls(stage.cache_file())) as calls, _lines(out.path / JUDGED) as write:
        for group in groups:
            labels: dict[str, list[Any]] = {}
            for config in stage.judges:
                try:
                    with open_judge(config, group.form, calls, stage.seed) as judge:
                        row, said = validate(judge, group, stage.tie)
                except LuhuoError as error:
                    # One judge's failure, a server that is gone, must not take the others' verdicts with it.
                    unable.append({"judge": config.label, "set": group.name, "reason": " ".join(str(error).split())})
                    continue
                table.append(row)
                labels[config.label] = [_label(one) for one in said]
                write({"judge": config.label, "set": group.name, **one} for one in said)
                _tell(row)
            table += recorded(group)
            agreed += [{"set": group.name, **one} for one in between(labels)]
    found = {"table": table, "judges": agreed, "failed": unable}
    write_json(out.path / "validation.json", found)
    write_text(out.path / "report.html", validation_page(found))
    for row in table:
        name = f"{row['judge']}.{row['set']}"
        out.results |= {f"kappa.{name}": row["kappa"]["value"], f"accuracy.{name}": row["accuracy"]}
        out.results |= {f"unjudged.{name}": row["unjudged"]}
    if not any(row["identity"] for row in table):
        raise LuhuoError(
            tr("No judge could judge any set.", "没有评判者能评判任何集合。"),
            found="; ".join(one["reason"] for one in unable),
        )
    for one in unable:
        say(f"{one['judge']} / {one['set']}: {one['reason']}")


def _label(row: Mapping[str, Any]) -> str | bool | None:
    if "outcome" in row:
        return row["outcome"]
    return None if row["chance"] is None else row["chance"] > 0.5


def _tell(row: Mapping[str, Any]) -> None:
    kappa = row["kappa"]["value"]
    shown = "–" if kappa is None else f"{kappa:.2f}"
    say(
        tr(
            f"{row['judge']} on {row['set']}: kappa {shown} with people, {row['unjudged']} not judged",
            f"{row['judge']} 在 {row['set']} 上：与人的 κ 为 {shown}，{row['unjudged']} 条未能评判",
        )
    )


def run_judge(stage: JudgeStage, out: Workspace) -> None:
    """Judge answers by every judge. Raises `LuhuoError`, or `RequirementMissed` below `min_kappa`."""
    _check_names(stage.judges)
    if stage.baseline and stage.baseline not in stage.answers:
        raise unknown_key(stage.baseline, sorted(stage.answers), None, tr("baseline", "基准模型"))
    asked = read_questions(stage.questions, stage.references)
    answers = {name: read_answers(path, asked) for name, path in stage.answers.items()}
    kind: Kind = stage.kind
    found: dict[str, Any] = {"kind": kind, "judges": {}, "models": list(answers)}
    with contextlib.closing(Calls(stage.cache_file())) as calls, _lines(out.path / JUDGED) as write:
        every: dict[str, list[Judged]] = {}
        for config in stage.judges:
            with open_judge(config, kind, calls, stage.seed) as judge:
                validity = _validity(stage, judge)
                if kind == "single":
                    report, rows = _rated(judge, answers, stage)
                else:
                    report, every[judge.name], rows = _compared(judge, answers, stage)
                write({"judge": judge.name, **row} for row in rows)
                found["judges"][judge.name] = report | {"validity": validity, "cost": asdict(judge.cost)}
    if len(every) > 1:
        found["between"] = between({name: [one.outcome for one in rows] for name, rows in every.items()})
        found["together"] = _together(every)
    write_json(out.path / "scores.json", found)
    write_text(out.path / "report.html", judge_page(found))
    out.results |= _headlines(found)


def _compared(
    judge: Judge, answers: Mapping[str, Mapping[str, Answered]], stage: JudgeStage
) -> tuple[dict[str, Any], list[Judged], list[dict[str, Any]]]:
    if len(answers) < 2:
        raise LuhuoError(tr("A comparison needs two models.", "比较需要两个模型。"), found=", ".join(answers))
    pairs, coverage = pairs_of(answers, stage.baseline, stage.limit)
    if not pairs:
        raise LuhuoError(
            tr("The models have no question in common.", "这些模型没有共同的问题。"),
            expected=tr("the same id, or the same prompt", "相同的 id，或相同的提示"),
        )
    judged = judge_pairs(judge, pairs, stage.tie)
    duels = defaultdict[tuple[str, str], list[Judged]](list)
    for one in judged:
        duels[one.pair.model_a, one.pair.model_b].append(one)
    report = {
        "coverage": coverage,
        "duels": [_duel(names, rows, duels, stage) for names, rows in duels.items()],
        "bias": asdict(position_bias(judged, stage.tie)),
        "leaderboard": _leaderboard([vote for one in judged if (vote := one.vote(judge.name)) is not None]),
    }
    return report, judged, [one.row() for one in judged]


def _duel(
    names: tuple[str, str],
    rows: Sequence[Judged],
    duels: Mapping[tuple[str, str], Sequence[Judged]],
    stage: JudgeStage,
) -> dict[str, Any]:
    told: dict[str, Any] = {"models": list(names), **standing(rows)}
    groups = defaultdict[str, list[Judged]](list)
    for one in rows:
        groups[str(one.pair.shown.meta.get("category") or "")].append(one)
    if set(groups) != {""}:
        told["categories"] = {name: standing(mine) for name, mine in sorted(groups.items())}
    annotations = _annotations(rows)
    if annotations:
        told["preference"] = asdict(win_rate(annotations))
        others = [_annotations(more) for other, more in duels.items() if other != names and other[1] == names[1]]
        kept = [one for one in others if one] if stage.baseline else []
        told["length_controlled"] = asdict(length_controlled(annotations, kept, stage.seed))
    return told


def _annotations(rows: Sequence[Judged]) -> list[Annotation]:
    """Pairs with both verdicts; one that could not be judged is in no win rate."""
    return [
        Annotation(
            one.pair.id,
            one.preference,
            float(sum(map(len, one.pair.shown.first))),
            float(sum(map(len, one.pair.shown.second))),
        )
        for one in rows
        if one.preference is not None
    ]


def _leaderboard(votes: Sequence[Vote]) -> list[dict[str, Any]] | None:
    """Ratings of three models or more that the votes join and bound; None otherwise."""
    if not votes:
        return None
    counts = count(votes)
    if len(counts.models) < 3 or len(components(counts)) > 1 or not bounded(counts).all():
        return None
    return [asdict(row) for row in bradley_terry(votes).rows]


def _together(every: Mapping[str, Sequence[Judged]]) -> list[dict[str, Any]]:
    """Wins and losses by the outcome that most judges give; without one it is a tie."""
    counts = defaultdict[tuple[str, str], Counter[str]](Counter)
    for rows in zip(*every.values(), strict=True):
        said = [one.outcome for one in rows if one.outcome is not None]
        if said:
            counts[rows[0].pair.model_a, rows[0].pair.model_b][majority(said) or "tie"] += 1
    return [
        {"models": list(names), "wins": one["a"], "ties": one["tie"], "losses": one["b"]}
        for names, one in counts.items()
    ]


def _rated(
    judge: Judge, answers: Mapping[str, Mapping[str, Answered]], stage: JudgeStage
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    models, rows = {}, []
    for model, mine in answers.items():
        asked = [
            (name, turn, shown)
            for name, one in spread(list(mine.items()), stage.limit)
            for turn, shown in turns_of(one)
        ]
        said = judge.say([shown for _, _, shown in asked])
        scores: dict[str, list[float]] = defaultdict(list)
        for (name, turn, shown), verdict in zip(asked, said, strict=True):
            row = {"model": model, "id": name, "turn": turn, "category": shown.meta.get("category")}
            rows.append(row | {"rating": verdict.value, "reason": verdict.reason, "said": verdict.text})
            if verdict.value is not None:
                for group in ("all", f"turn {turn}", *([f"category {row['category']}"] if row["category"] else [])):
                    scores[group].append(verdict.value)
        reasons = Counter(one.kind for one in said if one.value is None)
        models[model] = {
            "ratings": {group: asdict(bootstrap_mean(values, stage.seed)) for group, values in scores.items()},
            "unjudged": sum(reasons.values()),
            "reasons": dict(sorted(reasons.items())),
            "n": len(said),
        }
    return {"models": models}, rows


def _validity(stage: JudgeStage, judge: Judge) -> list[dict[str, Any]]:
    """What judge-validation found of this judge, set by set. Raises `RequirementMissed` below `min_kappa`."""
    rows = []
    if stage.validation is not None:
        file = Path(stage.validation) / "validation.json"
        if not file.is_file():
            raise LuhuoError(
                tr("This is no judge-validation.", "这不是 judge-validation 的结果。"), where=stage.validation
            )
        table = json.loads(file.read_text(encoding="utf-8"))["table"]
        rows = [row for row in table if row["identity"] == judge.identity]
    kappas = [row["kappa"]["value"] or 0.0 for row in rows]
    if stage.min_kappa and (not kappas or min(kappas) < stage.min_kappa):
        raise RequirementMissed(
            tr(
                "The judge has not shown the agreement with people that is asked for.",
                "评判者未达到所要求的与人一致性。",
            ),
            expected=f"kappa >= {stage.min_kappa}",
            found=", ".join(f"{kappa:.3f}" for kappa in kappas) or tr("not validated", "未经验证"),
            where=judge.name,
            fix=tr(
                "Run judge-validation with the same judge, or choose another.",
                "用同一评判者运行 judge-validation，或换一个。",
            ),
        )
    if not rows:
        say(
            tr(
                f"The judge {judge.name} was not validated against people.",
                f"评判者 {judge.name} 未与人工标注验证过。",
            )
        )
    return [
        {"set": row["set"], "kappa": row["kappa"], "accuracy": row["accuracy"], "people": row["people"]}
        for row in rows
    ]


def _headlines(found: Mapping[str, Any]) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for judge, report in found["judges"].items():
        results[f"cost.{judge}"] = report["cost"]["price"]
        for duel in report.get("duels", ()):
            name = f"{judge}.{duel['models'][0]}-{duel['models'][1]}"
            results |= {f"win_rate.{name}": duel["win_rate"], f"unjudged.{name}": duel["unjudged"]}
        for model, one in report.get("models", {}).items():
            rating = one["ratings"].get("all")
            results[f"rating.{judge}.{model}"] = rating["mean"] if rating else None
            results[f"unjudged.{judge}.{model}"] = one["unjudged"]
    return results


def _check_names(judges: Sequence[JudgeConfig]) -> None:
    double = [name for name, number in Counter(one.label for one in judges).items() if number > 1]
    if double:
        raise LuhuoError(
            tr("Two judges have the same name.", "有两个评判者同名。"),
            found=", ".join(double),
            fix=tr("Give them a name: {name: …}.", "请用 {name: …} 为它们命名。"),
        )


@contextlib.contextmanager
def _lines(path: Path) -> Iterator[Any]:
    """A function that writes rows into a file of JSON lines which appears whole."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as handle:

        def write(rows: Iterator[Mapping[str, Any]]) -> None:
            for row in rows:
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")

        yield write
