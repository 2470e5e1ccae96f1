"""Numbers in a reply: Arabic digits with thousands separators and decimals, Chinese numerals, and 3.5万."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "壹": 1, "贰": 2, "叁": 3, "肆": 4}
DIGITS |= {"伍": 5, "陆": 6, "柒": 7, "捌": 8, "玖": 9}
SMALL_UNITS = {"十": 10, "百": 100, "千": 1000, "拾": 10, "佰": 100, "仟": 1000}
BIG_UNITS = {"万": 10_000, "亿": 100_000_000}
_HAN = "".join([*DIGITS, *SMALL_UNITS, *BIG_UNITS])

_ARABIC = r"(?<![\d.])[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|[-+]?\d+(?:\.\d+)?"
_NUMBER = re.compile(rf"(?P<arabic>{_ARABIC})(?P<unit>[万亿])?|(?P<han>负?[{_HAN}]+(?:点[{_HAN}]+)?)")

# Everyday words that are written with numeral characters and name no number.
_NO_NUMBER = re.compile(
    rf"一(?=[起样些共定直般切下时旦边致向同再会生])|一点(?![{_HAN}])|(?<=[统唯第同])一(?![百千万十])"
    rf"|十分|(?<![{_HAN}])万一|千万(?=别|不要)|百货|两者"
)


def chinese_number(text: str) -> float | None:
    """The value of a Chinese numeral (三十五, 两百, 一万二千, 二〇二四, 三点五, 负七), or None if it is none."""
    sign = -1.0 if text.startswith("负") else 1.0
    whole, _, fraction = text.removeprefix("负").partition("点")
    if not whole or any(c not in _HAN for c in whole) or any(c not in DIGITS for c in fraction):
        return None
    if len(whole) > 1 and all(c in DIGITS for c in whole):  # read digit by digit, as years and telephone numbers are
        value = float("".join(str(DIGITS[c]) for c in whole))
    else:
        value = _with_units(whole)
    if fraction:
        value += float("0." + "".join(str(DIGITS[c]) for c in fraction))
    return sign * value


def _with_units(text: str) -> float:
    total = section = digit = 0
    last_unit = 1
    for c in text:
        if c in DIGITS:
            digit = DIGITS[c]
            last_unit = 10 if c in "零〇" else last_unit  # 一千零五 is 1005, 一千五 is 1500
        elif c in SMALL_UNITS:
            section += (digit or 1) * SMALL_UNITS[c]
            digit, last_unit = 0, SMALL_UNITS[c]
        else:
            unit = BIG_UNITS[c]
            if 0 < total < unit:  # 三万亿: the smaller unit counts the larger
                total = (total + section + digit) * unit
            else:
                total += (section + digit or 1) * unit
            section, digit, last_unit = 0, 0, unit
    return float(total + section + digit * (last_unit // 10 if last_unit > 10 else 1))


def numbers(text: str) -> Iterator[float]:
    """All numbers of a text in order. A minus sign counts only where no digit or word stands before it."""
    text = unicodedata.normalize("NFKC", text).replace("−", "-").replace("–", "-")
    text = _NO_NUMBER.sub(lambda match: " " * len(match.group()), text)
    for match in _NUMBER.finditer(text):
        if match["han"]:
            value = chinese_number(match["han"])
            if value is not None:
                yield value
            continue
        digits = match["arabic"].replace(",", "")
        before = text[match.start() - 1] if match.start() else " "
        if digits[0] in "+-" and (before.isalnum() or before == ")"):  # 12-7 and 2024-05: a hyphen, not a sign
            digits = digits[1:]
        yield float(digits) * BIG_UNITS.get(match["unit"] or "", 1)
