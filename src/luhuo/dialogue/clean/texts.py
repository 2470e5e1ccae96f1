"""What can be told from a text alone: mojibake, an end within a sentence, another language, control tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable

from luhuo.corpus.normalise import HAN
from luhuo.verify.script import language_of, script_counts, share_in

LATIN_RUN = re.compile(
    r"[\u0080-\u00ff\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]{2,}"
)
"""Characters that bytes beyond ASCII become when UTF-8 is read as Latin-1 or Windows-1252."""
WIDE_RUN = re.compile(r"[^\x00-\x7f]{5,}")
BROKEN = re.compile("\ufffd|锟斤拷|烫烫烫|屯屯屯")
SENTENCE_END = re.compile(r"[.!?。！？…]")
LIST_LINE = re.compile(r"\s*([-*+•#|>]|\d+[.)、])")
LONG_ANSWER = 200
"""Characters from which on an answer is expected to end its last sentence."""
ASKS_FOR_A_LANGUAGE = re.compile(
    r"translat|language|english|chinese|french|german|spanish|japanese|korean|russian|译|语言"
    r"|英文|英语|中文|汉语|法语|德语|日语|日文|韩语|俄语|西班牙语|拼音|pinyin",
    re.IGNORECASE,
)
WORDS = 6
"""Words of an answer from which on its language is told."""
OWN = 0.2
"""Share of an answer's words in the question's language up to which it is in another; words of the question count."""
SPOKEN = 4
"""Han characters that make a question Chinese, whatever it quotes."""
MARKERS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|begin_of_text|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<|user|>",
    "<|assistant|>",
    "### Instruction:",
    "### Response:",
    "\n\nHuman:",
    "\n\nAssistant:",
)
"""What templates of published models write."""


def mojibake(text: str) -> str | None:
    """The part of a text that was decoded with the wrong character set, or None."""
    if text.isascii():
        return None
    for found in BROKEN.finditer(text):
        return _around(text, found)
    for found in LATIN_RUN.finditer(text):
        if any(_fixes(found[0], name) for name in ("cp1252", "latin-1")):
            return _around(text, found)
    for found in WIDE_RUN.finditer(text):
        fixed = _fixes(found[0], "gb18030")
        if fixed and HAN.search(fixed):
            return _around(text, found)
    return None


def _around(text: str, found: re.Match[str]) -> str:
    return text[max(0, found.start() - 20) : found.end() + 20]


def _fixes(text: str, encoding: str) -> str | None:
    """What a text is in truth, if its bytes in this encoding are UTF-8 up to a character that is cut off."""
    try:
        raw = text.encode(encoding)
        found = raw.decode("utf-8", "replace")
    except UnicodeError:
        return None
    whole = found.rstrip("\ufffd")
    return whole if whole and len(found) - len(whole) <= 1 and "\ufffd" not in whole else None


def cut_off(answer: str) -> bool:
    """Whether an answer seems to end before its end: in code, or in the middle of a sentence of a longer text."""
    text = answer.rstrip()
    if text.count("```") % 2:
        return True
    if len(text) < LONG_ANSWER or len(SENTENCE_END.findall(text)) < 2:
        return False
    line = text.rsplit("\n", 1)[-1]
    in_prose = len(line) > 60 and not LIST_LINE.match(line)
    return text[-1] in ",，、（(" or (in_prose and (text[-1].isalnum() or text[-1] in "-—“"))


def in_other_language(question: str, answer: str, instructions: str = "") -> str | None:
    """ "zh, en": the languages of question and answer, where they differ and nothing asked for that; else None."""
    if ASKS_FOR_A_LANGUAGE.search(question) or ASKS_FOR_A_LANGUAGE.search(instructions):
        return None
    if sum(script_counts(answer).values()) < WORDS:
        return None
    asked = language_of(question)
    share = None if asked is None else share_in(answer, asked, given=question)
    if share is None or share > OWN:
        return None
    said = language_of(answer)
    if said == "zh" and len(HAN.findall(question)) >= SPOKEN:  # it quotes another language and is put in this one
        return None
    return f"{asked}, {said}"


def control_text(text: str, names: Iterable[str]) -> str | None:
    """The first control token of this tokenizer or of a published template that a text holds, or None."""
    return next((name for name in (*names, *MARKERS) if name in text), None)
