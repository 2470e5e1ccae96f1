"""What the ratings of a sheet say: means by model and criterion with intervals, and how far experts agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from itertools import combinations
from typing import Any

from luhuo.arena.sheets import Sheet
from luhuo.core.language import tr
from luhuo.evaluation.agreement import cohen_kappa, interval, krippendorff_alpha, shared
from luhuo.evaluation.judges.page import Section, number, page, span
from luhuo.verify.statistics import bootstrap_mean


def summary(sheet: Sheet, seed: int = 0) -> dict[str, Any]:
    """`models` (mean of every criterion over answers, each the mean of its experts), `agreement` by criterion
    (Krippendorff's alpha on the ordinal scale; Cohen's kappa of every two experts), `experts` (how far they are)."""
    by_answer = defaultdict[tuple[str, str, int], list[int]](list)
    by_expert = defaultdict[tuple[str, str], dict[int, int]](dict)
    for one in sheet.ratings():
        by_answer[one["criterion"], one["model"], one["answer"]].append(one["value"])
        by_expert[one["criterion"], one["expert"]][one["answer"]] = one["value"]
    models = defaultdict[str, dict[str, list[float]]](lambda: defaultdict(list))
    for (criterion, model, _), values in sorted(by_answer.items()):
        models[model][criterion].append(sum(values) / len(values))
    names = [one.id for one in sheet.criteria]
    experts = sorted({expert for _, expert in by_expert})
    return {
        "models": {
            model: {name: asdict(bootstrap_mean(values, seed)) for name, values in found.items()}
            for model, found in sorted(models.items())
        },
        "agreement": {name: _agreement(name, by_answer, by_expert, experts, seed) for name in names},
        "experts": {expert: _progress(sheet, expert) for expert in experts},
    }


def _progress(sheet: Sheet, expert: str) -> dict[str, int]:
    following, total = sheet.next(expert), sheet.total(expert)
    return {"done": total if following is None else following.done, "total": total}


def _agreement(
    name: str,
    by_answer: Mapping[tuple[str, str, int], list[int]],
    by_expert: Mapping[tuple[str, str], dict[int, int]],
    experts: list[str],
    seed: int,
) -> dict[str, Any]:
    items = [values for (criterion, _, _), values in sorted(by_answer.items()) if criterion == name]
    pairs = []
    for a, b in combinations(experts, 2):
        both = shared(by_expert.get((name, a), {}), by_expert.get((name, b), {}))
        pairs.append({"experts": [a, b], "kappa": cohen_kappa(both), "n": len(both)})
    alpha = interval(items, lambda some: krippendorff_alpha(some, "ordinal"), seed)
    return {"alpha": asdict(alpha), "pairs": pairs}


def report(found: Mapping[str, Any]) -> str:
    """The summary as a self-contained page."""
    names = list(found["agreement"])
    rows = [
        [
            model,
            *(f"{number(one[n]['mean'])} ({span(one[n]['low'], one[n]['high'])})" if n in one else "–" for n in names),
        ]
        for model, one in found["models"].items()
    ]
    agreed = []
    for name, one in found["agreement"].items():
        alpha = one["alpha"]
        pairs = ", ".join(f"{' · '.join(p['experts'])}: {number(p['kappa'])} ({p['n']})" for p in one["pairs"])
        agreed.append((name, number(alpha["value"]), span(alpha["low"], alpha["high"]), str(alpha["n"]), pairs or "–"))
    columns = (
        tr("criterion", "量表"),
        "α",
        "95%",
        tr("answers", "回答"),
        tr("κ of every two (answers)", "两两 κ（回答数）"),
    )
    note = tr(
        "Krippendorff's α on the ordinal scale: 1 is full agreement, 0 is chance.",
        "Krippendorff α（有序量表）：1 为完全一致，0 为机遇水平。",
    )
    experts = [(name, f"{one['done']} / {one['total']}") for name, one in found["experts"].items()]
    return page(
        tr("Rating sheet", "评分表"),
        [
            Section(tr("Means by model (95%)", "各模型均值（95%）"), [tr("model", "模型"), *names], rows),
            Section(tr("Agreement of experts", "专家一致性"), columns, agreed, note),
            Section(tr("Experts", "专家"), (tr("expert", "专家"), tr("done", "完成")), experts),
        ],
    )
