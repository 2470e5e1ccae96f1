"""The findings in words, in both languages: the law, the recommendation, and every reason to doubt them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from luhuo.train.scaling.analyse import Analysis, Prediction
    from luhuo.train.scaling.recommend import Recommendation

FEW_STEPS = 100
FAR = 100.0
"""Times the compute of the largest run beyond which a recommendation is called far."""


class Text(NamedTuple):
    """A sentence in both languages."""

    en: str
    zh: str


def number(value: float) -> str:
    """1,234,000 as 1.23M; very large and very small numbers as 1.2e+18."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    for limit, unit in ((1e12, "e"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value:.2e}" if unit == "e" else f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def duration(seconds: float) -> Text:
    """Seconds, minutes, hours or days."""
    for limit, size, en, zh in (
        (120, 1, "s", "秒"),
        (7200, 60, "min", "分钟"),
        (172800, 3600, "h", "小时"),
        (math.inf, 86400, "days", "天"),
    ):
        if seconds < limit:
            return Text(f"{seconds / size:.3g} {en}", f"{seconds / size:.3g} {zh}")
    raise AssertionError(seconds)


def recommendation(each: Recommendation) -> Text:
    """What to train with one budget."""
    size, tokens, loss = each.size, each.tokens, each.loss
    time = duration(each.seconds)
    span = f"{number(size.low)}–{number(size.high)}", f"{number(tokens.low)}–{number(tokens.high)}"
    near = f"{number(each.near[0])}–{number(each.near[1])}"
    en = (
        f"With {each.budget} ({number(each.flops)} FLOPs, {time.en}): train {number(size.value)} parameters "
        f"({span[0]}) on {number(tokens.value)} tokens ({span[1]}); expect {loss.value:.3f} bits per byte "
        f"({loss.low:.3f}–{loss.high:.3f}). Sizes of {near} come within 1% of that."
    )
    zh = (
        f"预算 {each.budget}（{number(each.flops)} FLOPs，{time.zh}）：训练 {number(size.value)} 参数（{span[0]}），"
        f"使用 {number(tokens.value)} 词元（{span[1]}）；预计每字节 {loss.value:.3f} 比特"
        f"（{loss.low:.3f}–{loss.high:.3f}）。{near} 参数的模型与之相差不到 1%。"
    )
    return Text(en, zh)


def prediction(each: Prediction) -> Text:
    """How the law did on a run it was not fitted to."""
    point, said = each.point, each.predicted
    where = f"{number(point.parameters)} × {number(point.tokens)} ({number(point.flops)} FLOPs)"
    span = f"{said.value:.4f} ({said.low:.4f}–{said.high:.4f})"
    return Text(
        f"Held-out run {where}: predicted {span}, measured {point.loss:.4f}, {each.error:+.2%}; "
        f"{'inside' if each.inside else 'OUTSIDE'} the 95% interval.",
        f"检验运行 {where}：预测 {span}，实测 {point.loss:.4f}，{each.error:+.2%}；"
        f"{'在' if each.inside else '不在'} 95% 区间内。",
    )


def warnings(found: Analysis) -> list[Text]:
    """Reasons to doubt the law or what it recommends."""
    return [*_about_points(found), *_about_fit(found), *_about_recommendations(found)]


def _about_points(found: Analysis) -> list[Text]:
    points, texts = found.points, []
    short = [point for point in points if point.steps < FEW_STEPS]
    if short:
        texts.append(
            Text(
                f"{len(short)} of {len(points)} runs have fewer than {FEW_STEPS} steps: warm-up weighs in them.",
                f"{len(points)} 次运行中有 {len(short)} 次不足 {FEW_STEPS} 步：预热影响较大。",
            )
        )
    heavy = [point for point in points if point.body < point.parameters / 2]
    if heavy:
        sizes = sorted({point.parameters for point in heavy})
        names = ", ".join(number(size) for size in sizes)
        texts.append(
            Text(
                f"More than half of the parameters are embeddings in {names}: a smaller vocabulary, or larger sizes.",
                f"规模 {names} 的参数过半是嵌入：宜减小词表或增大规模。",
            )
        )
    repeated = [point for point in points if point.tokens > point.unique]
    if repeated:
        texts.append(
            Text(
                f"{len(repeated)} runs repeat text; their tokens count as what they are worth "
                "(Muennighoff et al. 2023).",
                f"{len(repeated)} 次运行重复了文本，其词元按有效量折算（Muennighoff 等 2023）。",
            )
        )
    return texts


def _about_fit(found: Analysis) -> list[Text]:
    texts = []
    for name, interval in found.constants.items():
        if name in ("alpha", "beta") and interval.high > 3 * max(interval.low, 1e-9):
            texts.append(
                Text(
                    f"{name} is hardly known ({interval.low:.2g}–{interval.high:.2g}): "
                    "the grid needs a wider range or more runs.",
                    f"{name} 几乎未定（{interval.low:.2g}–{interval.high:.2g}）：需要更宽的网格或更多运行。",
                )
            )
    lowest = min(point.loss for point in found.points)
    if 0.02 * lowest > found.law.E:
        texts.append(
            Text(
                "E is next to nothing: the runs are too far from their limit to show it; do not read it as entropy.",
                "E 近乎为零：实验离极限太远，无法测出；不可当作文本的熵。",
            )
        )
    if not any(level.best for level in found.levels):
        texts.append(
            Text(
                "No isoFLOP curve has its lowest point inside the grid: the best size is extrapolated.",
                "没有一条等算力曲线的最低点落在网格内：最佳规模出自外推。",
            )
        )
    outside = [each for each in found.predictions if not each.inside]
    if outside:
        texts.append(
            Text(
                f"{len(outside)} of {len(found.predictions)} held-out runs lie outside the 95% interval.",
                f"{len(found.predictions)} 次检验运行中有 {len(outside)} 次落在 95% 区间之外。",
            )
        )
    return texts


def _about_recommendations(found: Analysis) -> list[Text]:
    largest = max(point.flops for point in found.points)
    texts = []
    for each in found.recommendations:
        if each.flops > FAR * largest:
            times = number(each.flops / largest)
            texts.append(
                Text(
                    f"{each.budget} is {times} times the largest run: far beyond what was measured.",
                    f"{each.budget} 是最大运行的 {times} 倍：远超实测范围。",
                )
            )
        if each.at_edge:
            texts.append(
                Text(
                    f"{each.budget}: no best size within reach; the end of the range is shown.",
                    f"{each.budget}：范围内没有最佳规模，所示为边界值。",
                )
            )
        if each.epochs > 1:
            texts.append(
                Text(
                    f"{each.budget}: the corpus would be read {each.epochs:.3g} times; "
                    + ("more text is worth more than compute." if each.epochs > 4 else "that costs little."),
                    f"{each.budget}：语料将被重复 {each.epochs:.3g} 遍；"
                    + ("增加文本比增加算力更值得。" if each.epochs > 4 else "损失不大。"),
                )
            )
    return texts
