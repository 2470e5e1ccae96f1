"""Limits a compressed model has to keep, as people write them: "1GB, loss<1%"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

Kind = Literal["bytes", "share", "number", "rate"]


@dataclass(frozen=True)
class Measure:
    """Something that can be limited."""

    names: tuple[str, ...]
    most: bool
    """Whether the limit is the most it may be; otherwise the least."""
    kind: Kind
    english: str
    chinese: str
    example: str


MEASURES = {
    "size": Measure(("size", "大小", "体积"), True, "bytes", "size on disk", "磁盘大小", "1GB"),
    "memory": Measure(("memory", "内存"), True, "bytes", "peak memory", "峰值内存", "memory<2GB"),
    "loss": Measure(("loss", "损失"), True, "share", "increase of perplexity", "困惑度增幅", "loss<1%"),
    "kl": Measure(("kl",), True, "number", "KL divergence", "KL 散度", "kl<0.02"),
    "agreement": Measure(("agreement", "一致率"), False, "share", "agreement", "一致率", "agreement>95%"),
    "accuracy": Measure(("accuracy", "准确率"), False, "share", "change of accuracy", "准确率变化", "accuracy>-1%"),
    "decode": Measure(("decode", "生成", "解码"), False, "rate", "speed of writing", "生成速度", "decode>1.5x"),
    "prefill": Measure(("prefill", "预填"), False, "rate", "speed of reading", "读取速度", "prefill>500"),
}
UNITS = " kmgt"
"""Letters of the powers of a thousand, or with an i of 1,024."""
PART = re.compile(
    r"(?:(?P<name>[^\W\d]+)\s*(?P<sign><=|>=|<|>|≤|≥|=|不超过|至多|至少)\s*)?"
    r"(?P<number>[-−]?\d+(?:\.\d+)?)\s*(?P<unit>[^\d\s]*)"
)


@dataclass(frozen=True)
class Limit:
    """One bound. `value` is in bytes, a share, nats, tokens a second, or a multiple of the original's rate."""

    measure: str
    value: float
    relative: bool = False
    """Of a rate: whether it is a multiple of the original's."""

    @property
    def most(self) -> bool:
        """Whether it is an upper bound."""
        return MEASURES[self.measure].most

    def holds(self, value: float | None) -> bool:
        """Whether a measured value keeps it; one that could not be measured does not."""
        return value is not None and (value <= self.value if self.most else value >= self.value)

    def excess(self, value: float | None) -> float:
        """How far a value is beyond the bound, relative to it; infinite where there is no value."""
        if value is None:
            return float("inf")
        beyond = value - self.value if self.most else self.value - value
        return max(0.0, beyond) / max(abs(self.value), 1e-3)

    def words(self) -> tuple[str, str]:
        """In English and in Chinese."""
        measure = MEASURES[self.measure]
        shown = shown_value(self.measure, self.value, self.relative)
        if measure.most:
            return f"{measure.english} at most {shown}", f"{measure.chinese}不超过 {shown}"
        return f"{measure.english} at least {shown}", f"{measure.chinese}至少 {shown}"


def shown_value(measure: str, value: float, relative: bool = False) -> str:
    """A value of a measure as people read it."""
    kind = MEASURES[measure].kind
    if kind == "bytes":
        return shown_bytes(value)
    if kind == "share":
        return f"{100 * value:.3g}%"
    if kind == "rate":
        return f"{value:.3g}×" if relative else tr(f"{value:.3g} tokens/s", f"{value:.3g} 词元/秒")
    return f"{value:.3g}"


def shown_bytes(value: float) -> str:
    """Bytes with three digits and a unit of a thousand: 2.95 MB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}" if value < 1000 * size else f"{value / size:.0f} {unit}"
    return f"{value:.0f} B"


def parse_limits(text: str, where: str = "--limit") -> list[Limit]:
    """The limits of a text, parts divided by commas. Raises `LuhuoError` that names the part it does not know."""
    parts = [part.strip() for part in re.split("[,，、;；]", text) if part.strip()]
    limits = [_parse(part, where) for part in parts]
    if not limits:
        raise _unknown(text, tr("it is empty", "内容为空"), where)
    for limit in limits:
        if sum(limit.measure == other.measure for other in limits) > 1:
            raise _unknown(text, tr(f"{limit.measure} is limited twice", f"{limit.measure} 限制了两次"), where)
    return limits


def _parse(part: str, where: str) -> Limit:
    found = PART.fullmatch(part.replace("％", "%"))
    if found is None:
        raise _unknown(part, None, where)
    word, unit = (found["name"] or "").lower(), found["unit"].lower()
    if not word and not unit.rstrip("b").rstrip("i"):
        raise _unknown(part, tr("a bare number has no unit", "单独的数字没有单位"), where)
    name = next((name for name, one in MEASURES.items() if word in one.names), None) if word else "size"
    if name is None:
        raise _unknown(part, tr(f"“{word}” is not known", f"不认识“{word}”"), where)
    measure, sign = MEASURES[name], found["sign"] or "<"
    if sign != "=" and (sign in ("<", "<=", "≤", "不超过", "至多")) != measure.most:
        wanted = "<" if measure.most else ">"
        raise _unknown(part, tr(f"{name} takes {wanted}", f"{name} 应使用 {wanted}"), where)
    number = float(found["number"].replace("−", "-"))
    value, relative = _value(measure.kind, number, unit, part, where)
    return Limit(name, value, relative)


def _value(kind: Kind, number: float, unit: str, part: str, where: str) -> tuple[float, bool]:
    if kind == "bytes":
        size = re.fullmatch(r"([kmgt]?)(i?)b?", unit)
        if size is None or number <= 0:
            raise _unknown(part, tr("a size is written as 700MB or 1GiB", "大小应写作 700MB 或 1GiB"), where)
        return number * (1024 if size[2] else 1000) ** UNITS.index(size[1] or " "), False
    if kind == "rate":
        if unit in ("x", "×", "倍"):
            return number, True
        if unit not in ("", "tok/s", "tokens/s", "/s", "词元/秒"):
            raise _unknown(part, tr("a rate is written as 100 or 1.5x", "速度应写作 100 或 1.5x"), where)
        return number, False
    if unit not in ("", "%") or (kind == "number" and unit):
        raise _unknown(part, tr(f"“{unit}” is no unit of this", f"“{unit}”不是它的单位"), where)
    return number / 100 if unit == "%" else number, False


def _unknown(part: str, why: str | None, where: str) -> LuhuoError:
    examples = ", ".join(measure.example for measure in MEASURES.values())
    return LuhuoError(
        tr(f"This limit cannot be understood: {part}", f"无法理解这个限制：{part}"),
        expected=tr(f"parts such as {examples}, divided by commas", f"以逗号分隔的若干项，如 {examples}"),
        found=why,
        where=where,
    )
