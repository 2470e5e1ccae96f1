"""Values that are valid in form and belong to nobody: reserved domains and numbers, areas that do not exist.

All digits come out of a digest of the true value, so that equal values get equal ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from luhuo.corpus.privacy.checksums import iban_remainder, luhn_digit, resident_check
from luhuo.corpus.privacy.kinds import Span
from luhuo.corpus.privacy.names import GIVEN_EN, SURNAMES

_GIVEN = sorted(GIVEN_EN)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class _Source:
    """Digits and letters out of a digest, as many as are asked for."""

    def __init__(self, digest: bytes) -> None:
        self._number = int.from_bytes(digest, "big")

    def below(self, limit: int) -> int:
        self._number, found = divmod(self._number, limit)
        return found

    def digits(self, count: int) -> str:
        return "".join(str(self.below(10)) for _ in range(count))

    def letters(self, count: int) -> str:
        return "".join(LETTERS[self.below(26)] for _ in range(count))


def synthetic(span: Span, digest: bytes, *, chinese: bool) -> str:
    """A value in the place of another; separators stay where they were. `digest`: 32 bytes of the true value."""
    source = _Source(digest)
    if span.kind == "name":
        return _name(source, chinese=chinese)
    if span.kind in ("address", "place"):
        return _address(source, chinese=chinese)
    return _MAKERS[span.kind](span.value, source)


def _email(value: str, source: _Source) -> str:
    """RFC 2606: the domains example.com, .net and .org are nobody's."""
    return f"{source.letters(6)}{source.digits(2)}@example.{('com', 'net', 'org')[source.below(3)]}"


def _phone(value: str, source: _Source) -> str:
    """China: 154 is given to no carrier, and no local number begins with 1. North America: 555-01XX is kept for
    fiction. Great Britain: 7700 900XXX too. Elsewhere: +999, a country code that is not assigned."""
    digits = re.sub(r"\D", "", value)
    plus = value.lstrip("(").startswith(("+", "00"))
    national = digits.removeprefix("00").removeprefix("86") if plus or len(digits) == 13 else digits
    own = not plus or digits.removeprefix("00").startswith("86")
    if own and len(national) == 11 and national[0] == "1" and national[1] in "3456789":
        return _laid(value, digits[: -len(national)] + "154" + source.digits(8))
    if own and (national.startswith("0") or digits.startswith(("86", "0086"))):
        area = 3 if national.startswith(("010", "02")) else 4
        area -= not national.startswith("0")
        prefix = len(digits) - len(national) + area
        return _laid(value, digits[:prefix] + "1" + source.digits(len(digits) - prefix - 1))
    if (len(digits) == 10 and not plus) or (len(digits) == 11 and digits[0] == "1"):
        return _laid(value, digits[:-7] + "55501" + source.digits(2))
    if digits.startswith("44") and len(digits) >= 12:
        return _laid(value, "447700900" + source.digits(len(digits) - 9))
    return _laid(value, ("999" + source.digits(len(digits)))[: len(digits)])


def _id_number(value: str, source: _Source) -> str:
    """Region 999 of GB/T 2260 does not exist."""
    body = f"999{source.digits(3)}19{50 + source.below(50)}{1 + source.below(12):02d}{1 + source.below(28):02d}"
    if len(value) == 15:
        return body[:6] + body[8:] + source.digits(3)
    body += source.digits(3)
    return _laid(value, body + resident_check(body))


def _bank_card(value: str, source: _Source) -> str:
    """ISO/IEC 7812: 9 is for national use, followed by a country; 999 is none."""
    count = sum(c.isdigit() for c in value)
    body = "9999" + source.digits(count - 5)
    return _laid(value, body + luhn_digit(body))


def _iban(value: str, source: _Source) -> str:
    """XX is kept by ISO 3166 for users and names no country; the check digits are right."""
    body = source.digits(sum(c.isalnum() for c in value) - 4)
    check = 98 - iban_remainder("XX00" + body)
    return _laid(value, f"XX{check:02d}{body}")


def _ssn(value: str, source: _Source) -> str:
    """Area 666 is never assigned."""
    return _laid(value, f"666{1 + source.below(99):02d}{1 + source.below(9999):04d}")


def _passport(value: str, source: _Source) -> str:
    """The letter O heads no Chinese passport, and no number of nine digits begins with 000."""
    return "000" + source.digits(6) if value.isdigit() else "O" + source.digits(len(value) - 1)


def _wechat(value: str, source: _Source) -> str:
    """Longer than the twenty characters that a name may have."""
    return f"example_{source.letters(12)}{source.digits(4)}"


def _qq(value: str, source: _Source) -> str:
    """No number begins with 0."""
    return "0" + source.digits(len(value) - 1)


def _plate(value: str, source: _Source) -> str:
    """The letter I stands on no plate."""
    rest = value[2:]
    mark = rest[:1] if not rest[:1].isalnum() else ""
    return f"{value[0]}I{mark}{source.digits(len(rest) - len(mark))}"


def _ip(value: str, source: _Source) -> str:
    """Documentation networks: RFC 5737, RFC 3849."""
    if ":" in value:
        return "2001:db8:" + ":".join(f"{source.below(65536):x}" for _ in range(6))
    return f"{('192.0.2', '198.51.100', '203.0.113')[source.below(3)]}.{1 + source.below(254)}"


def _secret(value: str, source: _Source) -> str:
    """A token of as many letters, of which most say what it is."""
    if "\n" in value or "PRIVATE KEY" in value:
        return "-----BEGIN PRIVATE KEY-----\nEXAMPLE\n-----END PRIVATE KEY-----"
    return f"{value[:3]}EXAMPLE{source.letters(8)}"


def _name(source: _Source, *, chinese: bool) -> str:
    """某 and Doe are what people say for somebody."""
    if chinese:
        return f"{SURNAMES[source.below(len(SURNAMES))]}某{'某' if source.below(2) else ''}"
    return f"{_GIVEN[source.below(len(_GIVEN))]} Doe"


def _address(source: _Source, *, chinese: bool) -> str:
    number = 1 + source.below(999)
    return f"示例市示例区示例路{number}号" if chinese else f"{number} Example Street"


def _laid(form: str, characters: str) -> str:
    """Characters in the places that letters and digits have in a form."""
    rest: Iterator[str] = iter(characters)
    return "".join(next(rest, "") if c.isalnum() else c for c in form)


_MAKERS: dict[str, Callable[[str, _Source], str]] = {
    "email": _email,
    "phone": _phone,
    "id_number": _id_number,
    "bank_card": _bank_card,
    "iban": _iban,
    "ssn": _ssn,
    "passport": _passport,
    "wechat": _wechat,
    "qq": _qq,
    "plate": _plate,
    "ip": _ip,
    "ip_private": _ip,
    "secret": _secret,
}
