"""Hiding what was found: typed placeholders, or values that are valid in form and belong to nobody."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Literal

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.corpus.normalise import language
from luhuo.corpus.privacy.context import folded
from luhuo.corpus.privacy.kinds import KINDS, Span
from luhuo.corpus.privacy.synthetic import synthetic

Style = Literal["placeholder", "synthetic"]
Scope = Literal["document", "corpus"]
TAG = 6
"""Hexadecimal digits that tell values of a corpus apart."""


def replace(
    text: str,
    spans: Sequence[Span],
    style: Style = "placeholder",
    key: str | bytes | None = None,
    *,
    scope: Scope = "document",
    lang: str | None = None,
) -> str:
    """The text with each span of `find` hidden, equal values alike.

    Placeholders are `<PHONE>` in English and `<电话号码>` in Chinese text (`lang`, else told by the script); a second
    value of the kind in the text is `<PHONE_2>`, and with scope "corpus" each value keeps one tag in all texts:
    `<PHONE_3f9a2c>`. Synthetic values are the same in all texts. What is the same in all texts comes out of an
    HMAC-SHA-256 with `key`, a secret: without it nobody can try out values. Raises `LuhuoError` without that key.
    """
    if key is None and (style == "synthetic" or scope == "corpus"):
        raise LuhuoError(
            tr("A secret key is needed to replace values alike everywhere.", "要在全库一致地替换，需要一个密钥。"),
            expected="key=…",
        )
    secret = key.encode() if isinstance(key, str) else key or b""
    chinese = (lang or language(text)).startswith("zh")
    numbers: dict[str, dict[str, int]] = {}
    parts, place = list[str](), 0
    for span in sorted(spans):
        known = numbers.setdefault(span.kind, {})
        number = known.setdefault(canonical(span), len(known) + 1)
        parts.append(text[place : span.start])
        if style == "synthetic":
            parts.append(synthetic(span, digest(span, secret), chinese=chinese))
        else:
            tag = digest(span, secret).hex()[:TAG] if scope == "corpus" else str(number) if number > 1 else ""
            name = KINDS[span.kind].zh if chinese else KINDS[span.kind].en
            parts.append(f"<{name}_{tag}>" if tag else f"<{name}>")
        place = span.end
    return "".join([*parts, text[place:]])


def canonical(span: Span) -> str:
    """The value without what people write differently: width, case, blanks, dashes, a country's own prefix."""
    value = folded(span.value)
    if span.kind in ("name", "address", "place", "secret"):
        return " ".join(value.split())
    value = (
        "".join(c for c in value if c not in " \t-.()") if span.kind not in ("email", "ip", "ip_private") else value
    )
    if span.kind == "phone":
        value = value.removeprefix("+").removeprefix("00")
        return value[2:] if value.startswith("86") and len(value) > 11 else value.lstrip("0")
    return value.upper() if span.kind in ("id_number", "iban", "passport", "plate") else value.lower()


def digest(span: Span, key: bytes) -> bytes:
    """32 bytes that stand for the value: HMAC-SHA-256 of kind and canonical value."""
    return hmac.digest(key, f"{span.kind}\0{canonical(span)}".encode(), "sha256")
