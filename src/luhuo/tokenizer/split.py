"""How text is cut before merges are learned: one pattern for training and for every later use.

A merge never crosses a cut. Latin words keep their leading space (as GPT-2 and GPT-4 do), digits stand alone or in
short groups, and runs of Han characters are capped: `\\p{L}+` alone would swallow a whole Chinese clause, so that
merges would cross word boundaries and the cost of training would grow with the length of the clause.
"""

from __future__ import annotations

HAN_RUN = 4
"""Default length of the longest piece of Han characters; nearly all Chinese words are that short."""

DIGIT_RUN = 1
"""Default length of the longest piece of digits; 1 makes place value visible to a small model."""


def split_pattern(han_run: int = HAN_RUN, digit_run: int = DIGIT_RUN) -> str:
    """The regular expression whose matches are the pieces. The alternatives are tried in this order."""
    alternatives = (
        rf"\p{{Han}}{{1,{han_run}}}",
        r"'(?i:[sdmt]|ll|re|ve)",  # English contractions: don't = don + 't
        # A word with the space or mark before it, but not with a Chinese full stop or a full-width mark.
        r"[^\r\n\p{L}\p{N}\u3000-\u303f\uff00-\uffef]?[[\p{L}\p{M}]&&[^\p{Han}]]+",
        rf"\p{{N}}{{1,{digit_run}}}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",  # punctuation, with the line end after it
        r"\s*[\r\n]+",
        r"\s+(?!\S)",  # leave the last blank to the word that follows
        r"\s+",
    )
    return "|".join(alternatives)
