"""Is the number of a reply the right one: decimals, fractions, percent, powers of ten, Chinese numerals."""

from __future__ import annotations

import math
import re
import unicodedata

from luhuo.verify.answers import Match, split_reasoning, stated
from luhuo.verify.numerals import chinese_number, numbers

RELATIVE = 1e-6
ABSOLUTE = 1e-9
_UNIT_WORDS = 3
"""A reply ends on a number when at most so many words (a unit, a thing counted) follow it."""

_DIGITS = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-+]?\.\d+"
_DECIMAL = re.compile(rf"({_DIGITS})(?:e([-+]?\d{{1,3}})|\s*(?:x|×|\*|·)\s*10\s*\^\s*\{{?([-+]?\d{{1,3}})\}}?)?", re.I)
_FRACTION = re.compile(rf"({_DIGITS})\s*/\s*({_DIGITS})")
_TEX_FRACTION = re.compile(r"([-+]?)\s*\\[dt]?frac\s*\{\s*([-+]?[\d.,]+)\s*\}\s*\{\s*([-+]?[\d.,]+)\s*\}")
_HAN_FRACTION = re.compile(
    r"(负?)([零〇一二三四五六七八九十百千万两\d]+)分之([零〇一二三四五六七八九十百千万两点\d.]+)"
)
_DRESS = re.compile(r"\\text\s*\{[^{}]*\}|\\(?:left|right|,|;|!|\$|%)|[$¥€£￥`*_]|^[\s=≈]+")


def value_of(text: str) -> float | None:
    """The value of a text that is one number and nothing else but dress ($, units, %); None for any other text.

    3/4, \\frac{3}{4}, 四分之三, 75%, 百分之七十五 and 0.75 are the same number; so are 1.2e3, 1.2×10^3 and 1,200.
    """
    text = re.sub(r"(?<=[^\W\d])[²³]", "", text)  # square and cubic units
    body = unicodedata.normalize("NFKC", text).replace("−", "-").replace("–", "-").strip().rstrip(".。!?")
    percent = body.endswith(("%", "\\%"))
    body = _DRESS.sub(" ", body.removesuffix("%").removesuffix("\\")).strip()
    value = _plain_value(body)
    return value / 100 if value is not None and percent else value


def _plain_value(body: str) -> float | None:
    if match := _TEX_FRACTION.fullmatch(body):
        return _ratio(match[2], match[3], negative=match[1] == "-")
    if match := _HAN_FRACTION.fullmatch(body):
        return _ratio(match[3], match[2], negative=bool(match[1]))
    if match := _FRACTION.fullmatch(body):
        return _ratio(match[1], match[2])
    if match := _DECIMAL.fullmatch(body):
        return float(f"{match[1].replace(',', '')}e{match[2] or match[3] or 0}")
    found = list(numbers(body))
    rest = re.sub(r"[\d.,+\-]|[零〇一二三四五六七八九十百千万亿两负点]", "", body)
    return found[0] if len(found) == 1 and _is_unit(rest) else None


def _is_unit(text: str) -> bool:
    """A few words of letters: "apples", "km/h", 个苹果. No sign of an operation, no further number."""
    return re.fullmatch(r"[^\W\d_]{0,12}(?:[ /²³°]+[^\W\d_]{0,12}){0,2}[²³°]?", text.strip()) is not None


def _ratio(top: str, bottom: str, negative: bool = False) -> float | None:
    above, below = _part(top), _part(bottom)
    if above is None or not below:
        return None
    return -above / below if negative else above / below


def _part(text: str) -> float | None:
    match = _DECIMAL.fullmatch(text)
    return _number(match[1]) if match else chinese_number(text)


def _number(digits: str) -> float:
    return float(digits.replace(",", ""))


def same(a: float, b: float, tolerance: float = RELATIVE) -> bool:
    """Whether two numbers are equal within a relative tolerance."""
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=ABSOLUTE)


def match_number(text: str, wanted: float, tolerance: float = RELATIVE) -> Match:
    """Strictly: the stated answer is this number, or the reply states none and ends on it (a unit may follow).
    Leniently: the last number of what is said after the reasoning."""
    said = split_reasoning(text)[1]
    answer = stated(text)
    found = _ending(said) if answer is None else _stated_value(answer)
    last = _last_value(said)
    strict = found is not None and same(found, wanted, tolerance)
    lenient = strict or (last is not None and same(last, wanted, tolerance))
    return Match(strict, lenient, parsed=found is not None)


def _stated_value(answer: str) -> float | None:
    """The number of a stated answer: all of it, what stands behind its last `=`, or the only number in it."""
    value = value_of(answer)
    if value is not None:
        return value
    behind = value_of(answer.rpartition("=")[2]) if "=" in answer else None
    found = list(numbers(answer))
    return behind if behind is not None else (found[0] if len(found) == 1 else None)


def _ending(said: str) -> float | None:
    """The number the last line ends on, if hardly anything follows it."""
    lines = [line for line in said.splitlines() if line.strip()]
    if not lines:
        return None
    whole = value_of(lines[-1])
    if whole is not None:
        return whole
    tail = value_of(lines[-1].rpartition("=")[2]) if "=" in lines[-1] else None
    if tail is not None:
        return tail
    found = list(numbers(lines[-1]))
    spots = list(
        re.finditer(r"\d[\d,.]*%?|[零〇一二三四五六七八九十百千万亿两]+", unicodedata.normalize("NFKC", lines[-1]))
    )
    if not found or not spots:
        return None
    after = re.findall(r"[\u3400-\u9fff]|[^\W\d_\u3400-\u9fff]+", lines[-1][spots[-1].end() :])
    return _last_value(lines[-1]) if len(after) <= _UNIT_WORDS else None


def _last_value(text: str) -> float | None:
    """The last number of a text; a fraction or a percentage at its end counts as one number."""
    tail = re.search(rf"(?:{_TEX_FRACTION.pattern}|{_FRACTION.pattern}|(?:{_DIGITS})\s*%)\D{{0,40}}$", text)
    if tail:
        value = value_of(re.sub(r"[^\d%}]+$", "", tail[0]))
        if value is not None:
            return value
    found = list(numbers(text))
    return found[-1] if found else None
