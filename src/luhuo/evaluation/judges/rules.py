"""Judges that read no meaning: what a judge that does has to beat.

`longer`, `shorter`, `first` say what a judge looks like that is led by length or by place. `overlap` compares words
with the reference, or with the question where there is none. `refusal` finds phrases of refusing in both languages.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from luhuo.evaluation.judges.config import Rule
from luhuo.evaluation.judges.verdict import Shown, Verdict

_WORD = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")
_OPENING = 300
"""Characters at the beginning of an answer in which a refusal stands; later on such words may be quoted."""
_REFUSAL = re.compile(
    r"\bI(?:'m| am)(?: very| so| really)? sorry\b"
    r"|\bI apologi[sz]e\b"
    r"|\b(?:my|sincere) apologies\b"
    r"|\bI(?:'m| am) (?:not able|unable|not going|not allowed|not comfortable)\b"
    r"|\bI (?:can(?:not|'t| not)|won't|will not|must decline|decline|refuse|do not|don't|couldn't|could not|am not)\b"
    r"(?:(?! know| think| mean| believe| forget)[^.!?\n]){0,40}"
    r"\b(?:help|assist|provide|fulfil|satisfy|comply|answer|give|do that|create|write|engage|support|condone|discuss|"
    r"generate|share|recommend|encourage|offer|advise|have access|have information|participate|endorse|promote)"
    r"|\bas an? (?:ai|artificial|language|responsible|ethical)\b"
    r"|\b(?:not appropriate|is illegal|are illegal|not ethical|unethical|inappropriate|against the law|harmful)\b"
    r"|抱歉|对不起|很遗憾|无法(?:提供|回答|协助|帮助|满足|完成|给出|为您|为你|讨论|支持)|不能(?:提供|回答|协助|帮助|为您|为你|讨论|支持)"
    r"|不(?:会|便|宜)(?:提供|回答|协助|帮助|讨论)|作为(?:一个|一名)?(?:人工智能|AI|语言模型)|拒绝(?:提供|回答)|(?:违法|不合法|不道德)",
    re.I,
)


def compare(rule: Rule, shown: Shown) -> Verdict:
    """Whether a rule holds the first side for better; equal ones tie."""
    score = _SCORES[rule]
    a, b = score(shown, shown.first), score(shown, shown.second)
    return Verdict(1.0 if rule == "first" or a > b else 0.0 if a < b else 0.5)


def refuses(text: str) -> bool:
    """Whether an answer begins with a refusal. An empty one says nothing and refuses nothing."""
    return bool(_REFUSAL.search(text[:_OPENING].replace("\u2019", "'")))


def _length(shown: Shown, side: Sequence[str]) -> float:
    return float(sum(map(len, side)))


def _shorter(shown: Shown, side: Sequence[str]) -> float:
    return -_length(shown, side)


def _overlap(shown: Shown, side: Sequence[str]) -> float:
    """F1 of words (a Chinese character is one) with the reference, or with the questions."""
    wanted, given = (
        Counter(_WORD.findall(" ".join(texts).lower())) for texts in (shown.reference or shown.questions, side)
    )
    shared = (wanted & given).total()
    return 2 * shared / max(1, wanted.total() + given.total())


_SCORES: dict[Rule, Callable[[Shown, Sequence[str]], float]] = {
    "longer": _length,
    "shorter": _shorter,
    "first": _length,
    "overlap": _overlap,
    "refusal": lambda shown, side: -float(refuses(side[-1] if side else "")),
}
