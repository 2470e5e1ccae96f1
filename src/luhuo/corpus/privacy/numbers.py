"""Numbers of persons: identity numbers, cards, telephones, and those that only a word before them makes known.

A single scan finds runs of seven and more digits, whatever blanks, dashes, dots and brackets stand between them; only
there are the kinds told apart.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from luhuo.corpus.privacy.checksums import card_kind, is_iban, is_old_resident_id, is_resident_id
from luhuo.corpus.privacy.context import before, in_link, is_measured, names_a_thing
from luhuo.corpus.privacy.kinds import Span

RUN = re.compile(r"[0-9](?:[ .()\-]{0,2}[0-9]){6,}")
NOT_BEFORE = r"(?<![0-9A-Za-z_.+$¥￥])(?<![0-9][\-/])"
NOT_BEHIND = r"(?![0-9A-Za-z_]|[.\-/][0-9])"

RESIDENT = re.compile(
    NOT_BEFORE
    + r"[1-9]\d{5}([ -]?)(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\1\d{3}[0-9Xx]"
    + NOT_BEHIND
)
OLD_RESIDENT = re.compile(NOT_BEFORE + r"[1-9]\d{14}" + NOT_BEHIND)
CARD = re.compile(
    NOT_BEFORE
    + r"(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{1,3})?|\d{4}([ -])\d{6}\2\d{4,5}|\d{6}([ -])\d{10,13})"
    + NOT_BEHIND
)
MOBILE = re.compile(
    r"(?<![0-9A-Za-z_.+$¥￥])(?<![0-9][\-/])(?:(?:\(\+?86\)|\+?86|0086)[ -]?)?"
    r"1(?:3\d|4[5-9]|5[0-35-9]|6[2567]|7[0-8]|8\d|9\d)(?:([ -]?)\d{4}\1\d{4}|([ -])\d{3}\2\d{5})" + NOT_BEHIND
)
AREA = r"(?:10|2[0-57-9]|[3-9]\d{2})"
LANDLINE = re.compile(
    NOT_BEFORE + rf"(?:(?:\+86|0086|\(\+?86\))[ -]?(?:\(0?{AREA}\)|0?{AREA})[ -]?|\(0{AREA}\)[ -]?|0{AREA}([ -]?))"
    r"[2-8]\d{2,3}[ -]?\d{4}(?:-\d{1,4}(?!\d))?(?![0-9A-Za-z_]|[./][0-9])"
)
NORTH_AMERICAN = re.compile(
    r"(?<![0-9A-Za-z_.+])(?<![0-9][\-/ ])(?:1[ .\-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}([\-. ]))"
    r"(?!.11)[2-9]\d{2}[\-. ]\d{4}" + NOT_BEHIND
)
INTERNATIONAL = re.compile(r"(?<![0-9A-Za-z_)+])\+[1-9](?:[ .()\-]{0,2}\d){7,14}(?![0-9A-Za-z_])")
COUNTRY = re.compile(
    r"(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|2[1-69]\d|3[578]\d|42[013]|50\d|59\d|6[789]\d"
    r"|85[02356]|88[06]|96\d|97\d|99[2-68])"
)
"""Country codes of ITU-T E.164."""
SOCIAL = re.compile(NOT_BEFORE + r"(?!000|666|9)\d{3}([ -]?)(?!00)\d{2}\1(?!0000)\d{4}" + NOT_BEHIND)

RESIDENT_CUE = re.compile(r"身[份分][证證]|公民身份|居民[证證]|[Ii][Dd] [Cc]ard|[Rr]esident [Ii]dentity")
CARD_CUE = re.compile(
    r"卡[号號]|[银銀]行卡|信用卡|借[记記]卡|储蓄卡|[账帐賬帳][号號]|[Cc]ard|CARD|[Vv]isa|[Mm]aster|[Aa]ccount|[Dd]ebit"
)
PHONE_CUE = re.compile(
    r"[电電][话話]|手[机機]|[传傳]真|热线|熱線|座机|联系方式|聯[系絡繫]|致电|拨打"
    r"|[Pp]hone|PHONE|[Tt]el\b|TEL|[Ff]ax|FAX|[Cc]all|[Mm]obile|[Cc]ell|[Hh]otline"
)
SOCIAL_CUE = re.compile(r"SSN|[Ss]ocial [Ss]ecurity|社会(?:保障|安全)号")
GATES = {"id_number", "bank_card", "phone", "ssn"}

IBAN_GATE = re.compile(r"[0-9](?<=[A-Z]{2}[0-9])[0-9] ?[A-Z0-9]{4}")
IBAN = re.compile(r"(?<![0-9A-Za-z])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![0-9A-Za-z])")
PASSPORT = re.compile(
    r"(?:(?:护照|護照)(?:[号號][码碼]?|编号)?|[Pp]assport(?: (?:[Nn]o\.?|[Nn]umber|#))?)[ :：为是is()]{0,6}"
    r"([A-Za-z]{1,2}\d{6,8}|\d{9})"
    r"(?![0-9A-Za-z])"
)


def find_numbers(text: str, lang: str, kinds: Collection[str]) -> Iterator[Span]:
    """Identity numbers, cards, telephones and social security numbers in folded text."""
    if not GATES.isdisjoint(kinds):
        for run in RUN.finditer(text):
            yield from _of_run(text, lang, kinds, max(0, run.start() - 6), min(len(text), run.end() + 6))


def find_codes(text: str, kinds: Collection[str]) -> Iterator[Span]:
    """IBANs and passport numbers in folded text."""
    if "iban" in kinds:
        for gate in IBAN_GATE.finditer(text):
            match = IBAN.match(text, gate.start() - 2)
            found = _iban(match[0]) if match else None
            if match and found:
                yield Span(match.start(), match.start() + len(found), "iban", found)
    if "passport" in kinds and any(word in text for word in ("护照", "護照", "assport")):
        for match in PASSPORT.finditer(text):
            yield Span(match.start(1), match.end(1), "passport", match[1])


def _iban(text: str) -> str | None:
    """The longest beginning that is an IBAN: a word in capitals may follow it."""
    while text:
        if is_iban(text.replace(" ", "")):
            return text
        text = text.rpartition(" ")[0]
    return None


def _of_run(text: str, lang: str, kinds: Collection[str], start: int, end: int) -> Iterator[Span]:
    if "id_number" in kinds:
        for match in RESIDENT.finditer(text, start, end):
            if is_resident_id(match[0].replace(" ", "").replace("-", "")):
                yield Span(*match.span(), "id_number", match[0])
        for match in OLD_RESIDENT.finditer(text, start, end):
            if is_old_resident_id(match[0]) and RESIDENT_CUE.search(before(text, match.start())):
                yield Span(*match.span(), "id_number", match[0])
    if "bank_card" in kinds:
        for match in CARD.finditer(text, start, end):
            if _is_card(text, match):
                yield Span(*match.span(), "bank_card", match[0])
    if "ssn" in kinds:
        for match in SOCIAL.finditer(text, start, end):
            if SOCIAL_CUE.search(before(text, match.start(), 40)):
                yield Span(*match.span(), "ssn", match[0])
    if "phone" in kinds:
        yield from _phones(text, lang, start, end)


def _is_card(text: str, match: re.Match[str]) -> bool:
    kind = card_kind(match[0].replace(" ", "").replace("-", ""))
    if kind is None or in_link(text, match.start()):
        return False
    if CARD_CUE.search(before(text, match.start())):
        return True
    return kind == "sure" and not names_a_thing(text, match.start()) and not is_measured(text, match.end())


def _phones(text: str, lang: str, start: int, end: int) -> Iterator[Span]:
    for match in MOBILE.finditer(text, start, end):
        if _is_mobile(text, match):
            yield Span(*match.span(), "phone", match[0])
    for match in LANDLINE.finditer(text, start, end):
        parted = match[1] != ""
        if (parted or PHONE_CUE.search(before(text, match.start()))) and not names_a_thing(text, match.start()):
            yield Span(*match.span(), "phone", match[0])
    for match in NORTH_AMERICAN.finditer(text, start, end):
        certain = match[0].startswith("(") or match[1] == "-" or (match[0].count(".") == 2 and lang == "en")
        known = PHONE_CUE.search(before(text, match.start()))
        if known or (certain and not names_a_thing(text, match.start()) and not in_link(text, match.start())):
            yield Span(*match.span(), "phone", match[0])
    for match in INTERNATIONAL.finditer(text, start, end):
        if _is_international(match[0]):
            yield Span(*match.span(), "phone", match[0])


def _is_mobile(text: str, match: re.Match[str]) -> bool:
    if PHONE_CUE.search(before(text, match.start())):
        return True
    place, stop = match.span()
    if names_a_thing(text, place) or in_link(text, place) or is_measured(text, stop):
        return False
    return text[stop : stop + 1] != "," or not text[stop + 1 : stop + 4].isdigit()


def _is_international(number: str) -> bool:
    digits = "".join(filter(str.isdigit, number))
    if number.count(".") == 1 and len(digits) + 2 == len(number):  # a sign, and a fraction
        return False
    if digits.startswith("86"):
        return bool(re.fullmatch(rf"86(?:1[3-9]\d{{9}}|0?{AREA}[2-8]\d{{6,7}})", digits))
    if digits.startswith("1"):
        return bool(re.fullmatch(r"1[2-9]\d{2}[2-9]\d{6}", digits))
    return 9 <= len(digits) <= 15 and COUNTRY.match(digits) is not None
