"""E-mail addresses, written plainly or spelt out, and IP addresses, public and private apart."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator

from luhuo.corpus.privacy.context import before
from luhuo.corpus.privacy.kinds import Span

LOCAL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+-"
DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.)+(?P<tld>[A-Za-z]{2,24})(?![A-Za-z0-9]|-[A-Za-z0-9])"
)
_PICTURES = "png|jpg|jpeg|gif|svg|webp|bmp|ico"
NO_TLD = frozenset(f"{_PICTURES}|js|css|html|htm|php|txt|json|xml|dll|exe|gz|tar|jar|class".split("|"))
"""Endings of file names: `icon@2x.png` is no address."""
GIT = ("git", "hg", "svn")

_TLD = r"(?:com|org|net|edu|gov|cn|io|me|info|uk|de|fr|jp|ca|au|ru|in|nl|ch|se|it|es|eu|us|hk|tw|kr|sg|ai|dev|app)"
_AT = r"\s?(?:\[\s?(?:at|AT|At|@)\s?\]|\(\s?(?:at|AT|At|@)\s?\)|\{\s?(?:at|AT|At|@)\s?\})\s?"
_DOT = r"\s?(?:\.|\[\s?(?:dot|DOT|\.)\s?\]|\(\s?(?:dot|DOT|\.)\s?\)|\{\s?(?:dot|DOT|\.)\s?\}|\sdot\s|\sDOT\s)\s?"
BRACKETED_GATE = re.compile(r"[\[({]\s?(?:at|AT|At|@)\s?[\])}]")
BRACKETED = re.compile(
    rf"(?<![A-Za-z0-9._%+\-])[A-Za-z0-9][A-Za-z0-9._%+\-]{{0,63}}{_AT}(?:[A-Za-z0-9\-]+{_DOT}){{1,4}}{_TLD}(?![A-Za-z0-9])"
)
SPOKEN = re.compile(
    r"(?<![A-Za-z0-9._%+\-])[A-Za-z0-9][A-Za-z0-9._%+\-]{0,63}\s(?:at|AT)\s"
    r"(?:(?!(?:the|that|this|a|an|my|our|your|his|her|its)\s)[A-Za-z0-9\-]+\s(?:dot|DOT)\s){1,4}"
    rf"{_TLD}(?![A-Za-z0-9])"
)

V4_GATE = re.compile(r"\.(?<=[0-9].)[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")
V4 = re.compile(r"[0-9](?<![0-9A-Za-z_.\-].)\d{0,2}\.(?:\d{1,3}\.){2}\d{1,3}(?![0-9A-Za-z_]|\.\d|-\d)")
V6_GATE = re.compile(r":[0-9A-Fa-f]{0,4}:")
V6 = re.compile(r"(?<![0-9A-Za-z_:.])(?:[0-9A-Fa-f]{1,4}|:)(?::[0-9A-Fa-f]{0,4}){2,7}(?![0-9A-Za-z_:])")
LEAST_V4 = 11
"""Characters of an address of which nothing else says that it is one: `8.2.4.44` is a section."""
HOST = re.compile(r"IP|[Hh]ost|[Aa]ddr|[Ss]erver|[Pp]ing|地址|服务器|主机|节点|@|//$")
PORT = re.compile(r":\d{2,5}(?!\d)|/\d{1,2}(?!\d)")
VERSION = re.compile(
    r"(?:(?<![A-Za-z])(?:[Vv]|[Vv]ers?(?:ion)?)|版本|[Rr]elease|第|节|章|条|[Ss]ection|[Cc]hapter|§)[ :：.]{0,2}$"
)


def find_network(text: str, kinds: Collection[str]) -> Iterator[Span]:
    """E-mail and IP addresses in folded text."""
    if "email" in kinds:
        yield from _plain(text)
        yield from _spelt(text)
    if "ip" in kinds or "ip_private" in kinds:
        for span in _addresses(text):
            if span.kind in kinds:
                yield span


def _plain(text: str) -> Iterator[Span]:
    """Around every @: as far as the signs of an address go."""
    at = text.find("@")
    while at >= 0:
        domain = DOMAIN.match(text, at + 1) if at else None
        if domain is not None and domain["tld"].lower() not in NO_TLD:
            head = text[max(0, at - 64) : at]
            local = head[len(head.rstrip(LOCAL)) :].lstrip("._%+-")
            start, end = at - len(local), domain.end()
            remote = local in GIT and text[end : end + 1] in (":", "/")
            inside = text[start - 3 : start] == "://" if start >= 3 else False
            if local and not local.endswith(".") and ".." not in local and not remote and not inside:
                yield Span(start, end, "email", text[start:end])
        at = text.find("@", at + 1)


def _spelt(text: str) -> Iterator[Span]:
    if BRACKETED_GATE.search(text):
        for match in BRACKETED.finditer(text):
            yield Span(*match.span(), "email", match[0])
    if " dot " in text or " DOT " in text:
        for match in SPOKEN.finditer(text):
            yield Span(*match.span(), "email", match[0])


def _addresses(text: str) -> Iterator[Span]:
    for gate in V4_GATE.finditer(text):
        match = V4.search(text, max(0, gate.start() - 3), gate.end() + 5)
        kind = _v4(text, match) if match else None
        if match and kind:
            yield Span(*match.span(), kind, match[0])
    if V6_GATE.search(text):
        for match in V6.finditer(text):
            kind = _v6(match[0])
            if kind:
                yield Span(*match.span(), kind, match[0])


def _v4(text: str, match: re.Match[str]) -> str | None:
    """Public, private or none: few digits are a version unless a word, a port or a mask says otherwise."""
    parts = match[0].split(".")
    if any(int(part) > 255 or (part[0] == "0" and len(part) > 1) for part in parts):
        return None
    if VERSION.search(before(text, match.start(), 10)):
        return None
    told = HOST.search(before(text, match.start(), 20)) or PORT.match(text, match.end())
    if len(match[0]) < LEAST_V4 and not told:
        return None
    return _kind(ipaddress.IPv4Address(match[0]))


def _v6(text: str) -> str | None:
    """Public addresses are those of 2000::/3; what is too short to be told from `a::b` of a program is none."""
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return None
    groups = [group for group in text.split(":") if group]
    digits = sum(character.isdigit() for character in text)
    if (len(groups) < 3 or digits < 3) and not text.lower().startswith(("fe80:", "fd", "fc")):
        return None
    return _kind(address)


def _kind(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str | None:
    if address.is_unspecified or address.is_multicast or address.is_reserved:
        return None
    return "ip" if address.is_global else "ip_private"
