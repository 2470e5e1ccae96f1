"""Keys that open something: tokens with the prefixes that their issuers gave them, and private keys."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luhuo.corpus.privacy.kinds import Span

_W, _E = r"(?<![A-Za-z0-9_\-])", r"(?![A-Za-z0-9_\-])"
UNDERSCORE = re.compile(r"_[A-Za-z0-9_]{16}")
HYPHEN = ("sk-", "xox", "glpat-", "pypi-")
BEHIND_UNDERSCORE = re.compile(
    _W + r"(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}|[srp]k_(?:live|test)_[A-Za-z0-9]{16,}"
    r"|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{36})" + _E
)
"""GitHub, Stripe, Hugging Face, npm."""
BEHIND_HYPHEN = re.compile(
    _W + r"(?:sk-(?:ant-|proj-|or-)?[A-Za-z0-9_\-]{20,}|xox[abeprs]-[A-Za-z0-9\-]{10,}|glpat-[A-Za-z0-9_\-]{20,}"
    r"|pypi-[A-Za-z0-9_\-]{50,})" + _E
)
"""OpenAI and those that followed it, Slack, GitLab, PyPI."""
OTHERS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("AKIA", re.compile(_W + r"AKIA[0-9A-Z]{16}" + _E)),
    ("ASIA", re.compile(_W + r"ASIA[0-9A-Z]{16}" + _E)),
    ("AIza", re.compile(_W + r"AIza[A-Za-z0-9_\-]{35}" + _E)),
    ("SG.", re.compile(_W + r"SG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}" + _E)),
    ("eyJ", re.compile(_W + r"eyJ[A-Za-z0-9_\-]{10,}\.eyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{10,}" + _E)),
    ("LTAI", re.compile(_W + r"LTAI[A-Za-z0-9]{12,26}" + _E)),
    ("AKID", re.compile(_W + r"AKID[A-Za-z0-9]{28,40}" + _E)),
)
"""Amazon, Google, SendGrid, JSON web tokens, Alibaba, Tencent; by what a text must hold for a look to be worth it."""

BLOCK = re.compile(
    r"-----BEGIN ((?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?)-----[^-]{20,20000}(?:-----END \1-----)?", re.DOTALL
)
LEAST_DIFFERENT = 8
"""Different characters in a token: fewer, and it stands in a manual for one (`sk-xxxx…`)."""


def find_secrets(text: str) -> Iterator[Span]:
    """Tokens and private keys."""
    patterns = [pattern for needle, pattern in OTHERS if needle in text]
    patterns += [BEHIND_UNDERSCORE] if "_" in text and UNDERSCORE.search(text) else []
    patterns += [BEHIND_HYPHEN] if any(needle in text for needle in HYPHEN) else []
    for pattern in patterns:
        for match in pattern.finditer(text):
            if len(set(match[0])) >= LEAST_DIFFERENT and any(c.isdigit() for c in match[0][4:]):
                yield Span(*match.span(), "secret", match[0])
    if "PRIVATE KEY" in text:
        for match in BLOCK.finditer(text):
            yield Span(*match.span(), "secret", match[0])
