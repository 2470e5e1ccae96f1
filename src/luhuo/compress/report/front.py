"""Which of several compressed models are worth looking at, and which one keeps the limits best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from luhuo.compress.report.limits import MEASURES, Limit, shown_bytes, shown_value

QUALITY = ("loss", "kl", "agreement", "accuracy")

NOTABLE = 0.98
"""Of the size of the recommended model: another one is only worth a word where it is smaller."""

Figures = dict[str, Any]
"""Of one model: "name", "label", and by measure a number, or {"mean", "low", "high"}; rates with "…_ratio"."""
Words = dict[str, str]
"""{"en", "zh"}."""


@dataclass(frozen=True)
class Recommendation:
    """The model to take, or the nearest one where none keeps the limits; why, in sentences."""

    name: str
    fits: bool
    words: list[Words]


def pareto(points: Iterable[tuple[str, float, float]]) -> list[str]:
    """Names of the (name, x, y) that no other is at most as large as in both and smaller in one, by x."""
    front: list[tuple[str, float, float]] = []
    for point in sorted(points, key=lambda p: (p[1], p[2])):
        if not front or point[2] < front[-1][2]:
            front.append(point)
    return [name for name, _, _ in front]


def value_of(figures: Figures, limit: Limit, *, careful: bool = False) -> float | None:
    """What a limit looks at. `careful`: the end of the interval that is worse."""
    found = figures.get(f"{limit.measure}_ratio" if limit.relative else limit.measure)
    if isinstance(found, dict):
        return found[("high" if limit.most else "low") if careful else "mean"]
    return found


def keeps(figures: Figures, limits: Sequence[Limit], *, careful: bool = False) -> bool:
    """Whether a model keeps all limits; `careful`: also at the worse ends of its intervals."""
    return all(limit.holds(value_of(figures, limit, careful=careful)) for limit in limits)


def recommend(models: Sequence[Figures], limits: Sequence[Limit]) -> Recommendation | None:
    """Of the models that keep all limits: where size, memory or speed are limited, the one that loses least (by
    divergence; by perplexity where that is not known); otherwise the smallest. One that keeps them also at the worse
    ends of its intervals goes before all others. None where there is no model."""
    if not models:
        return None
    room = any(limit.measure not in QUALITY for limit in limits)
    fitting = [one for one in models if keeps(one, limits)]
    if not fitting:
        return _nearest(models, limits)
    sure = [one for one in fitting if keeps(one, limits, careful=True)]
    best = min(sure or fitting, key=lost if room else _size)
    words = [_headline(best, limits, bool(sure)), _why(best, fitting, room), *_others(best, fitting)]
    return Recommendation(best["name"], True, [line for line in words if line is not None])


def lost(figures: Figures) -> float:
    """What models are ordered by: divergence; where tokens differ the change of log-perplexity, which on text that the
    original had written itself would be the same."""
    if figures.get("kl") is not None:
        return figures["kl"]["mean"]
    if figures.get("loss") is None:
        return math.inf
    return math.log1p(max(0.0, figures["loss"]["mean"]))


def _size(figures: Figures) -> float:
    return figures["size"]


def _nearest(models: Sequence[Figures], limits: Sequence[Limit]) -> Recommendation:
    best = min(
        models, key=lambda one: (round(sum(limit.excess(value_of(one, limit)) for limit in limits), 2), lost(one))
    )
    broken = [limit for limit in limits if not limit.holds(value_of(best, limit))]
    en, zh = zip(*(limit.words() for limit in limits), strict=True)
    words = [
        {
            "en": f"Nothing that was tried fits ({'; '.join(en)}). The nearest is {best['label']}: {_facts(best)[0]}.",
            "zh": f"试过的方法都不满足（{'；'.join(zh)}）。最接近的是 {best['label']}：{_facts(best)[1]}。",
        }
    ]
    for limit in broken:
        value = value_of(best, limit)
        shown = "—" if value is None else shown_value(limit.measure, value, limit.relative)
        words.append(
            {
                "en": f"It misses: {limit.words()[0]} (it has {shown}).",
                "zh": f"未满足：{limit.words()[1]}（实际为 {shown}）。",
            }
        )
    for limit in broken:
        alone = [one for one in models if limit.holds(value_of(one, limit))]
        if not alone:
            measure = MEASURES[limit.measure]
            words.append(
                {
                    "en": f"No model that was tried keeps the limit on {measure.english}, whatever the others say.",
                    "zh": f"即使不考虑其他限制，也没有模型满足{measure.chinese}的限制。",
                }
            )
    return Recommendation(best["name"], False, words)


def _headline(best: Figures, limits: Sequence[Limit], sure: bool) -> Words:
    en, zh = zip(*(limit.words() for limit in limits), strict=True)
    doubt = ("", "")
    if not sure:
        doubt = (
            " The worse ends of its intervals are beyond the limit: measure on more text.",
            "其置信区间较差的一端超出限制：请用更多文本测量。",
        )
    return {
        "en": f"Take {best['label']}: {_facts(best)[0]}. It keeps the limits ({'; '.join(en)}).{doubt[0]}",
        "zh": f"推荐 {best['label']}：{_facts(best)[1]}。满足限制（{'；'.join(zh)}）。{doubt[1]}",
    }


def _why(best: Figures, fitting: Sequence[Figures], room: bool) -> Words:
    if len(fitting) == 1:
        return {"en": "It is the only one that fits.", "zh": "它是唯一满足限制的。"}
    if room:
        return {
            "en": f"Of the {len(fitting)} that fit it changes the model's predictions least.",
            "zh": f"在满足限制的 {len(fitting)} 个中，它对模型预测的改变最小。",
        }
    return {
        "en": f"It is the smallest of the {len(fitting)} that fit.",
        "zh": f"它是满足限制的 {len(fitting)} 个中最小的。",
    }


def _others(best: Figures, fitting: Sequence[Figures]) -> list[Words]:
    found = []
    smallest = min(fitting, key=_size)
    if smallest["size"] < NOTABLE * best["size"]:
        found.append(
            {
                "en": f"The smallest that fits is {smallest['label']}: {_facts(smallest)[0]}.",
                "zh": f"满足限制的最小者是 {smallest['label']}：{_facts(smallest)[1]}。",
            }
        )
    timed = [one for one in fitting if one.get("decode_ratio") is not None]
    fastest = max(timed, key=lambda one: one["decode_ratio"], default=None)
    if fastest is not None and fastest is not best and fastest["decode_ratio"] > 1.1 * (best.get("decode_ratio") or 0):
        found.append(
            {
                "en": f"The fastest that fits is {fastest['label']}: {_facts(fastest)[0]}.",
                "zh": f"满足限制的最快者是 {fastest['label']}：{_facts(fastest)[1]}。",
            }
        )
    return found


def _facts(one: Figures) -> tuple[str, str]:
    """Size, loss, agreement and speed in a line."""
    share = f" ({100 * one['size_ratio']:.0f}%)" if one.get("size_ratio") else ""
    en, zh = [f"{shown_bytes(one['size'])}{share}"], [f"{shown_bytes(one['size'])}{share}"]
    if one.get("loss") is not None:
        mean, low, high = (100 * one["loss"][end] for end in ("mean", "low", "high"))
        en.append(f"perplexity {mean:+.2f}% ({low:+.2f} to {high:+.2f})")
        zh.append(f"困惑度 {mean:+.2f}%（{low:+.2f} 至 {high:+.2f}）")
    if one.get("agreement") is not None:
        en.append(f"the same next token in {100 * one['agreement']['mean']:.1f}%")
        zh.append(f"下一词元一致率 {100 * one['agreement']['mean']:.1f}%")
    if one.get("decode_ratio") is not None:
        en.append(f"writes {one['decode_ratio']:.2f} times as fast")
        zh.append(f"生成速度为原来的 {one['decode_ratio']:.2f} 倍")
    return ", ".join(en), "，".join(zh)
