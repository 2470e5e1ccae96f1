"""What stands around a candidate: words that say what a number is, and whether it is part of a link or a table."""

from __future__ import annotations

import re

CUE = 28
"""Characters before a number in which a word may say what it is."""

FULL_WIDTH = {0xFF01 + place: 0x21 + place for place in range(94)}
FULL_WIDTH |= dict.fromkeys((0x2010, 0x2011, 0x2012, 0x2013, 0x2212), 0x2D) | dict.fromkeys(
    (0xA0, 0x2009, 0x202F), 0x20
)
"""Full-width ASCII to half width and all dashes and blanks to one, a character for a character: offsets stay."""
_WIDE = re.compile("[０-９＠Ａ-Ｚａ-ｚ．－＋（）\u2010-\u2013\u2212\xa0\u2009\u202f]+")

OTHER_NUMBER = re.compile(
    r"(?:订单|单号|流水|序列|货号|条码|运单|快递|发票|合同|案号|批号|文号|编号|许可证|备案|工号|学号|型号|版本|时间戳|主键"
    r"|ISBN|ISSN|DOI|[Oo]rder|ORDER|[Ii]nvoice|[Tt]racking|[Ss]erial|SKU|[Pp]art\s?(?:no|num)|[Bb]uild|[Hh]ash|[Cc]ommit"
    r"|md5|sha\d|uuid|UUID|[Tt]imestamp|(?<![A-Za-z])(?:[Ii]d|ID|TSO|tso|[Vv]ersion|[Rr]evision|[Rr]ow|[Kk]ey)s?)"
    r"[^,，.。;；\n]{0,12}$"
)
"""Words that say of the number behind them that it names a thing."""


def folded(text: str) -> str:
    """The text with one width of digits, letters and marks; every character keeps its place."""
    return text if text.isascii() else _WIDE.sub(lambda match: match[0].translate(FULL_WIDTH), text)


def before(text: str, start: int, width: int = CUE) -> str:
    """What stands before a place, in the same line."""
    first = max(0, start - width)
    return text[max(first, text.rfind("\n", first, start) + 1) : start]


def names_a_thing(text: str, start: int) -> bool:
    """Whether the words before a number say that it is an order, a version, a key and the like."""
    return OTHER_NUMBER.search(before(text, start)) is not None


def in_link(text: str, start: int) -> bool:
    """Whether a place stands inside a web address."""
    begin = max(
        text.rfind(blank, max(0, start - 300), start) for blank in (" ", "\n", "\t", "(", "<", '"', "，", "：")
    )
    return "://" in text[begin + 1 : start] or text.startswith("www.", begin + 1)


def is_measured(text: str, end: int) -> bool:
    """Whether a unit or a fraction follows, so that the number counts something."""
    return _UNIT.match(text, end) is not None


_UNIT = re.compile(
    r"\s?(?:元|块|吨|米|字节|毫秒|微秒|纳秒|人次|美元|万|亿|%|％|[KMGT]i?B\b|bytes?\b|rows?\b|ms\b|ns\b|us\b)"
)
