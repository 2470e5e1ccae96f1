"""In which language is a text: shares of scripts among its words, without code, formulas, links and quoted names.

No model and no word lists beyond a handful: what a reward has to tell apart is an English answer to a Chinese question
and a chain of thought that slips from one language into another, and that is a matter of script.
"""

from __future__ import annotations

import re
from collections import Counter

SCRIPTS = {
    "han": r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "kana": r"\u3040-\u30ff\u31f0-\u31ff",
    "hangul": r"\uac00-\ud7af\u1100-\u11ff",
    "latin": r"A-Za-z\u00c0-\u024f\u1e00-\u1eff",
    "cyrillic": r"\u0400-\u052f",
    "arabic": r"\u0600-\u06ff\u0750-\u077f",
    "devanagari": r"\u0900-\u097f",
    "greek": r"\u0370-\u03ff",
    "hebrew": r"\u0590-\u05ff",
    "thai": r"\u0e00-\u0e7f",
}
LANGUAGES = {
    "en": ("latin",),
    "zh": ("han",),
    "ja": ("kana", "han"),
    "ko": ("hangul",),
    "ru": ("cyrillic",),
    "ar": ("arabic",),
    "hi": ("devanagari",),
    "el": ("greek",),
    "he": ("hebrew",),
    "th": ("thai",),
}
"""The scripts a language is written in. "en" stands for every language in Latin letters."""

_ALONE = ("han", "kana", "thai")  # written without spaces: each character counts as a word
_UNITS = re.compile(
    "|".join(f"(?P<{name}>[{signs}]{'' if name in _ALONE else '+'})" for name, signs in SCRIPTS.items())
)
_NO_LANGUAGE = re.compile(
    r"```.*?(?:```|\Z)"  # code
    r"|`[^`\n]*`"
    r"|\$\$.*?\$\$|\$[^$\n]*\$|\\\(.*?\\\)|\\\[.*?\\\]"  # formulas
    r"|\\[A-Za-z]+"
    r"|https?://\S+|[A-Za-z0-9_.+-]{1,64}@[A-Za-z0-9-]{1,64}\.\w+"
    r"|</?[A-Za-z_]+>",  # tags such as <think>
    re.S,
)


def script_counts(text: str) -> Counter[str]:
    """Words by script (a Chinese character is one), without code, formulas, links, tags and single Latin letters."""
    text = _NO_LANGUAGE.sub(" ", text)
    counts: Counter[str] = Counter()
    for match in _UNITS.finditer(text):
        name = match.lastgroup or ""
        if name in ("latin", "greek") and len(match[0]) == 1 and match[0] not in "aAI":
            continue  # x, y, A, π: names of quantities and options, in every language
        counts[name] += 1
    return counts


def language_of(text: str) -> str | None:
    """The language of most words of a text (a key of `LANGUAGES`), or None where there are no words."""
    counts = script_counts(text)
    if not counts:
        return None
    if counts["kana"] and counts["kana"] >= 0.1 * counts["han"]:
        return "ja"
    # A Chinese word has 1.5 characters or so: a sentence with as many characters as Latin words is Latin text.
    weights = {name: count / 1.5 if name == "han" else count for name, count in counts.items()}
    most = max(weights, key=lambda name: weights[name])
    return next((lang for lang, scripts in LANGUAGES.items() if scripts[0] == most), None)


def share_in(text: str, language: str, given: str = "") -> float | None:
    """The share of a text's words in a language's scripts, 0 to 1; None where there are no words.

    Words that stand in `given` (the question: names, quotations, terms) count as belonging to any language.
    This is the language-consistency reward of DeepSeek-R1 (section 2.3.2) when applied to the reasoning.
    """
    own = LANGUAGES[language]
    allowed = {match[0].casefold() for match in _UNITS.finditer(given)}
    inside = outside = 0
    for match in _UNITS.finditer(_NO_LANGUAGE.sub(" ", text)):
        name, word = match.lastgroup or "", match[0]
        if name in own:
            inside += 1
        elif not (name in ("latin", "greek") and len(word) == 1) and word.casefold() not in allowed:
            outside += 1
    return inside / (inside + outside) if inside + outside else None
