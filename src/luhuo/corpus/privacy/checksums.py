"""Check digits: they tell a real number from digits that look like one."""

from __future__ import annotations

import calendar
import re

_LUHN_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_RESIDENT_WEIGHTS = tuple(2 ** (17 - place) % 11 for place in range(17))
_RESIDENT_CHECKS = "10X98765432"

PROVINCES = frozenset(
    f"{first}{second}"
    for first, seconds in zip(
        "12345678", ("12345", "123", "1234567", "123456", "01234", "12345", "1", "123"), strict=True
    )
    for second in seconds
) | {"99"}
"""First two digits of an identity number (GB/T 2260); 99 is given to nobody and stands in invented ones."""

IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LI": 21, "LT": 20, "LU": 20,
    "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24,
    "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip
"""Characters of an IBAN by country (ISO 13616 registry)."""


def luhn_sum(digits: str) -> int:
    """The sum of Luhn's formula (ISO/IEC 7812-1) modulo ten: 0 for a valid number."""
    odd, even = digits[-1::-2], digits[-2::-2]
    return (sum(map(int, odd)) + sum(_LUHN_DOUBLED[int(digit)] for digit in even)) % 10


def luhn_digit(body: str) -> str:
    """The digit that makes a body of digits valid."""
    return str(-luhn_sum(body + "0") % 10)


def resident_check(body: str) -> str:
    """The check character of the first 17 digits of an identity number (GB 11643, ISO 7064 MOD 11-2)."""
    return _RESIDENT_CHECKS[
        sum(int(digit) * weight for digit, weight in zip(body, _RESIDENT_WEIGHTS, strict=True)) % 11
    ]


def is_resident_id(number: str) -> bool:
    """Whether 18 characters are an identity number: a province, a day of birth that exists, the check character."""
    return (
        number[:2] in PROVINCES
        and number[6:8] in ("18", "19", "20")
        and is_day(int(number[6:10]), int(number[10:12]), int(number[12:14]))
        and resident_check(number[:17]) == number[17].upper()
    )


def is_old_resident_id(number: str) -> bool:
    """Whether 15 digits can be an identity number of before 1999, which has no check digit."""
    day = 1900 + int(number[6:8]), int(number[8:10]), int(number[10:12])
    return number[:2] in PROVINCES and is_day(*day)


def is_day(year: int, month: int, day: int) -> bool:
    """Whether there is such a day."""
    return 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]


def iban_remainder(text: str) -> int:
    """An IBAN without blanks modulo 97: 1 for a valid one (ISO 13616)."""
    return int("".join(str(int(character, 36)) for character in text[4:] + text[:4])) % 97


def is_iban(text: str) -> bool:
    """Whether text without blanks is an IBAN: a country, its length, its check digits."""
    return IBAN_LENGTHS.get(text[:2]) == len(text) and iban_remainder(text) == 1


CARD_PREFIX = re.compile(
    r"(?P<sure>62\d{14,17}|4\d{15}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|6(?:011|4[4-9]\d|5\d\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|9558\d{12}(?:\d{3})?)"
    r"|4\d{12}|4\d{18}|3(?:0[0-5]|[68]\d)\d{11}|5[06-9]\d{14,17}|6[078]\d{14,17}"
)
"""Issuers' prefixes with their lengths; those without `sure` are rare or old, and wait for a cue."""


def card_kind(digits: str) -> str | None:
    """ "sure", "rare", or None for digits that are no card number of a known issuer with a valid check digit."""
    match = CARD_PREFIX.fullmatch(digits)
    if match is None or luhn_sum(digits) or len(set(digits)) < 2:
        return None
    return "sure" if match["sure"] else "rare"
