"""Handles, plates, names and addresses: what no check digit proves, and a word beside it does."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from luhuo.corpus.privacy.context import before
from luhuo.corpus.privacy.kinds import Span
from luhuo.corpus.privacy.names import GIVEN_EN, SURNAMES, TRADITIONAL

WECHAT = re.compile(
    r"(?:(?:微信|薇信|威信|[Ww]e[Cc]hat|[Vv][Xx])(?P<told>\s?(?:[号號][码碼]?|账号|帳號|ID|[Ii]d))?(?P<sign>\s?[:：]|\s?[为是])?\s?"
    r"|加\s?(?P<add>微信?|[Vv薇])[:：]?\s?)(?P<value>[A-Za-z][A-Za-z0-9_\-]{5,19})(?![A-Za-z0-9_\-.])"
)
HAN = re.compile("[\u4e00-\u9fff]")
WECHAT_GATE = re.compile(r"[信加xXCc](?:(?<=[微薇威]信)|(?<=加)[Vv薇微]|(?<=[Vv][xX])|hat(?<=[Ww]e....))")
QQ_GATE = re.compile(r"[Qq扣企][Qq群扣鹅]")
"""Gates begin with a set of characters: that is what a scan is fast for."""
WECHAT_LATIN, QQ_LATIN = ("echat", "eChat", "VX", "vx", "Vx"), ("QQ", "qq")
QQ = re.compile(
    r"(?<![A-Za-z])(?:[Qq]{2}|[Qq]群|扣扣|企鹅号?)(?:群|[号號][码碼]?|联系|咨询)*(?:\s?[:：]\s?|\s?[为是]\s?|\s|)([1-9]\d{4,10})"
    r"(?![0-9A-Za-z年月.]|版)"
)
PLATE = re.compile(
    r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼]"
    r"[A-HJ-NP-Z][·•.\- ]?"
    r"(?:[DF][A-HJ-NP-Z0-9]\d{4}|\d{5}[DF]|[A-HJ-NP-Z0-9]{4}[A-HJ-NP-Z0-9挂学警港澳])(?![A-Za-z0-9\-])"
)

NAME_ZH = re.compile(
    r"(?:姓\s{0,2}名|联系人|聯[絡繫]人|收件人|收[货貨]人|寄件人|持卡人|开户名|户名|患者|投保人|被保险人|申请人|紧急联系人|负责人|法定代表人)"
    r"\s?[:：]\s{0,2}(?P<value>[\u4e00-\u9fff]{2,4})(?=$|[\s,，;；。、（(/|]|先生|女士|同志)"
)
NAME_EN = re.compile(
    r"ame ?[:：] ?(?P<value>(?P<first>[A-Z][a-z]+)(?: [A-Z]\.?)?"
    r"(?: (?:[A-Z][a-z]+|[A-Z]'[A-Z][a-z]+|Mc[A-Z][a-z]+)(?:-[A-Z][a-z]+)?){1,2})"
)
"""Behind Name:, Full name:, Patient name: and the like."""

NUMBERED = re.compile(
    r"(?:路|街|道|巷|弄|胡同|村|里|镇)(?:[东南西北中]段)?\s?\d{1,5}(?:[-之]\d{1,4})?\s?(?:[号號]|弄)(?!令|文|线|公告|决议|决定|修正|案)"
    r"(?:(?:院|[\u4e00-\u9fff]{2,8}?(?:小区|花园|大厦|公寓|家园|苑))?\s?[A-Za-z0-9]{1,5}(?:号楼|栋|幢|单元|室|层|楼|座|号)){0,4}"
)
REGION = re.compile(r"[\u4e00-\u9fff]{2,}?(?:省|自治区|市|州|盟|区|县|旗|镇|乡)")
INTRODUCED = re.compile(
    r".*(?:住址|地址|住在|家住|位于|坐落于?|坐落在|居住于?|寄到|寄往|送到|送至|设在|现住|租住于?|户籍|[是为在到至于从])[:：是为在于]?"
)
HOME = re.compile(
    r"(?:住址|家住|住在|家庭[住地]址|户籍(?:地址|所在地)?|收[货貨件](?:地址|人)|寄到|寄往|送货|通[讯信]地址|现住|租住|居住)"
    r"[^。！？\n]{0,24}$"
)
STREET = re.compile(
    r"[0-9](?<![0-9A-Za-z.,$\-].)\d{0,4}(?: [NSEW]\.?"
    r"| (?:North|South|East|West))?(?: [A-Z][a-z]+| \d{1,3}(?:st|nd|rd|th)){1,3}"
    r" (?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Terrace|Place|Way)(?![A-Za-z])\.?"
    r"(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Flat|#)\.? ?#?[0-9A-Za-z\-]{1,6})?"
    r"(?:, (?:[A-Z][a-z]+ ?){1,3}, [A-Z]{2}(?: \d{5}(?:-\d{4})?)?)?"
)
HOME_EN = re.compile(
    r"(?:[Hh]ome address|[Mm]ailing address|(?<!IP )(?<!MAC )(?<!mail )[Aa]ddress\s?:"
    r"|[Ll]iv(?:es|ed|ing|e) at|[Rr]esid(?:es|ing|ed|ent) (?:at|of)"
    r"|[Ss]hip(?:ped|ping)? (?:it )?to|[Dd]eliver(?:ed|y)? to|[Mm]ail (?:it )?to"
    r"|[Ss]end (?:it )?to|[Mm]y address)[^.\n]{0,24}$"
)


def find_persons(text: str, kinds: Collection[str]) -> Iterator[Span]:
    """Handles, plates, names and addresses in folded text."""
    chinese = not text.isascii() and HAN.search(text) is not None
    if "wechat" in kinds and _holds(text, chinese, WECHAT_GATE, WECHAT_LATIN):
        for match in WECHAT.finditer(text):
            signed = (match["sign"] or match["add"]) and any(c in "0123456789_-" for c in match["value"])
            if match["told"] or signed:
                yield Span(*match.span("value"), "wechat", match["value"])
    if "qq" in kinds and _holds(text, chinese, QQ_GATE, QQ_LATIN):
        for match in QQ.finditer(text):
            yield Span(*match.span(1), "qq", match[1])
    if "plate" in kinds and chinese:
        for match in PLATE.finditer(text):
            if sum(c.isdigit() for c in match[0]) >= 3:
                yield Span(*match.span(), "plate", match[0])
    if "name" in kinds:
        yield from _names(text, chinese=chinese)
    if "address" in kinds or "place" in kinds:
        for span in _addresses(text, chinese=chinese):
            if span.kind in kinds:
                yield span


def _holds(text: str, chinese: bool, gate: re.Pattern[str], words: tuple[str, ...]) -> bool:
    """Whether a text is worth a closer look; without Han characters a search for words is faster."""
    return gate.search(text) is not None if chinese else any(word in text for word in words)


def _names(text: str, *, chinese: bool) -> Iterator[Span]:
    """Names in the field of a form; the same name is then found in the rest of the text too."""
    found = []
    if chinese:
        found += [m.span("value") for m in NAME_ZH.finditer(text) if m["value"].startswith((*SURNAMES, *TRADITIONAL))]
    if "ame:" in text or "ame :" in text or "ame：" in text:
        found += [m.span("value") for m in NAME_EN.finditer(text) if m["first"] in GIVEN_EN]
    for start, end in found:
        yield Span(start, end, "name", text[start:end])
    for value in {text[start:end] for start, end in found if end - start > 2}:  # two characters may be a word too
        for match in re.finditer(re.escape(value), text):
            yield Span(*match.span(), "name", value)


def _addresses(text: str, *, chinese: bool) -> Iterator[Span]:
    if chinese:
        for match in NUMBERED.finditer(text):
            span = _chinese(text, match)
            if span:
                yield span
    for match in STREET.finditer(text):
        kind = "address" if HOME_EN.search(before(text, match.start(), 60)) else "place"
        yield Span(*match.span(), kind, match[0])


def _chinese(text: str, match: re.Match[str]) -> Span | None:
    """The address that ends in a road and a number: back to where its first region begins, or its road's name."""
    line = before(text, match.start(), 40)
    name = re.search(r"[\u4e00-\u9fff0-9A-Za-z]*$", line)
    head = name[0] if name else ""
    introduced = INTRODUCED.match(head)
    head = head[introduced.end() :] if introduced else head
    region = REGION.match(head)
    start = match.start() - len(head)
    home = HOME.search(before(text, start + 1 if not head else start, 40)) or HOME.search(line)
    if home is None and region is None:
        return None
    return Span(start, match.end(), "address" if home else "place", text[start : match.end()])
