"""The 25 checks: does a reply keep to one instruction. Each takes the reply and the instruction's parameters.

They agree with the published ones, oddities included (an asterisk alone on its line takes the next line for its
text), and are written so that no reply, however built, takes more than linear time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from luhuo.evaluation.ifeval import words

Check = Callable[..., bool]

_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_STARRED = re.compile(r"^\s*\*[^*].*$", re.M)
_DASHED = re.compile(r"^\s*-.*$", re.M)
_HAN = "\u3400-\u9fff"
_FIRST_WORD_ENDS = frozenset(".,?!'\"")


def related(count: int, relation: str, bound: int) -> bool:
    """Whether a count is "less than" a bound, or "at least" it."""
    return count < bound if relation == "less than" else count >= bound


def existence(reply: str, keywords: list[str]) -> bool:
    """All keywords stand in it, as parts of words too."""
    return all(keyword.lower() in reply.lower() for keyword in keywords)


def frequency(reply: str, keyword: str, frequency: int, relation: str) -> bool:
    """A keyword stands in it so often."""
    return related(reply.lower().count(keyword.strip().lower()), relation, frequency)


def forbidden_words(reply: str, forbidden_words: list[str]) -> bool:
    """None of the words stands in it, as a whole word (Chinese has no spaces: anywhere)."""
    return not any(re.search(_bounded(word), reply, re.I) for word in forbidden_words)


def _bounded(word: str) -> str:
    left = "" if re.match(f"[{_HAN}]", word) else r"\b"
    right = "" if re.search(f"[{_HAN}]$", word) else r"\b"
    return left + re.escape(word) + right


def letter_frequency(reply: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    """A letter stands in it so often, small or capital."""
    return related(reply.lower().count(letter.strip().lower()), let_relation, let_frequency)


def response_language(reply: str, language: str) -> bool:
    """It is written in this language; a reply by which no language can be told counts as right."""
    return words.language(reply) in (language, None)


def number_sentences(reply: str, num_sentences: int, relation: str) -> bool:
    """It has so many sentences."""
    return related(words.sentences(reply), relation, num_sentences)


def number_paragraphs(reply: str, num_paragraphs: int) -> bool:
    """It has so many paragraphs, parted by ***; none but the first and last place may be empty."""
    parts = [part.strip() for part in reply.split("***")]
    filled = [part for part in parts if part]
    return all(parts[1:-1]) and len(filled) == num_paragraphs


def number_words(reply: str, num_words: int, relation: str) -> bool:
    """It has so many words."""
    return related(words.words(reply), relation, num_words)


def nth_paragraph_first_word(reply: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """It has so many paragraphs, parted by blank lines, and the one asked for begins with the word."""
    parts = [part.strip() for part in reply.split("\n\n")]
    place = nth_paragraph - 1
    if sum(map(bool, parts)) != num_paragraphs or not 0 <= place < num_paragraphs or not parts[place]:
        return False
    word = parts[place].split()[0].lstrip("'").lstrip('"')
    end = next((at for at, sign in enumerate(word) if sign in _FIRST_WORD_ENDS), len(word))
    return word[:end].lower() == first_word.lower()


def number_placeholders(reply: str, num_placeholders: int) -> bool:
    """It has at least so many [placeholders], each on one line."""
    return sum(map(_bracketed, reply.split("\n"))) >= num_placeholders


def _bracketed(line: str) -> int:
    count, place = 0, 0
    while (opened := line.find("[", place)) >= 0 and (closed := line.find("]", opened)) >= 0:
        count, place = count + 1, closed + 1
    return count


def postscript(reply: str, postscript_marker: str) -> bool:
    """It has a postscript with this marker."""
    patterns = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return bool(re.search(patterns.get(postscript_marker, re.escape(postscript_marker.lower())), reply.lower()))


def number_bullet_lists(reply: str, num_bullets: int) -> bool:
    """It has exactly so many points, lines that begin with * or -."""
    text = re.sub(r"\s+", _shortened, reply)
    return len(_STARRED.findall(text)) + len(_DASHED.findall(text)) == num_bullets


def _shortened(space: re.Match[str]) -> str:
    """Many blank lines as two, which match the same, since each line of a run would be a start of its own."""
    lines = space[0].split("\n")
    return "\n".join([lines[0], "", lines[-1]]) if len(lines) > 3 else space[0]


def constrained_response(reply: str) -> bool:
    """It contains one of the three answers."""
    return any(answer in reply for answer in _ANSWERS)


def number_highlighted_sections(reply: str, num_highlights: int) -> bool:
    """It has at least so many *highlighted* or **highlighted** parts, none of them empty."""
    single = re.findall(r"\*[^\n*]*\*", reply)
    double = re.findall(r"\*\*[^\n*]*\*\*", reply)
    return sum(bool(part.strip("*").strip()) for part in single + double) >= num_highlights


def multiple_sections(reply: str, section_spliter: str, num_sections: int) -> bool:
    """It has at least so many sections, marked by the word and a number."""
    return len(re.findall(rf"{re.escape(section_spliter.strip())}\s?\d+", reply)) >= num_sections


def json_format(reply: str) -> bool:
    """All of it is one JSON value, bare or in a code fence."""
    text = reply.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(reply: str) -> bool:
    """It has a <<title>> on one line."""
    for line in reply.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if 0 <= start <= end - 3 and line[start : end + 2].lstrip("<").rstrip(">").strip():
            return True
    return False


def two_responses(reply: str) -> bool:
    """It has two different answers, parted by ******; none but the first and last place may be empty."""
    parts = [part.strip() for part in reply.split("******")]
    filled = [part for part in parts if part]
    return all(parts[1:-1]) and len(filled) == 2 and filled[0] != filled[1]


def repeat_prompt(reply: str, prompt_to_repeat: str) -> bool:
    """It begins with the request."""
    return reply.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(reply: str, end_phrase: str) -> bool:
    """It ends with the phrase."""
    return reply.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def quotation(reply: str) -> bool:
    """All of it stands in double quotation marks."""
    text = reply.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def capital_word_frequency(reply: str, capital_frequency: int, capital_relation: str) -> bool:
    """It has so many words in capitals."""
    return related(words.capitals(reply), capital_relation, capital_frequency)


def english_capital(reply: str) -> bool:
    """It is English, in capitals only."""
    return reply.isupper() and words.language(reply) in ("en", None)


def english_lowercase(reply: str) -> bool:
    """It is English, in small letters only."""
    return reply.islower() and words.language(reply) in ("en", None)


def no_comma(reply: str) -> bool:
    """It has no comma."""
    return "," not in reply


CHECKS: dict[str, tuple[Check, dict[str, Any]]] = {
    "change_case:capital_word_frequency": (
        capital_word_frequency,
        {"capital_frequency": int, "capital_relation": "r"},
    ),
    "change_case:english_capital": (english_capital, {}),
    "change_case:english_lowercase": (english_lowercase, {}),
    "combination:repeat_prompt": (repeat_prompt, {"prompt_to_repeat": str}),
    "combination:two_responses": (two_responses, {}),
    "detectable_content:number_placeholders": (number_placeholders, {"num_placeholders": int}),
    "detectable_content:postscript": (postscript, {"postscript_marker": str}),
    "detectable_format:constrained_response": (constrained_response, {}),
    "detectable_format:json_format": (json_format, {}),
    "detectable_format:multiple_sections": (multiple_sections, {"section_spliter": str, "num_sections": int}),
    "detectable_format:number_bullet_lists": (number_bullet_lists, {"num_bullets": int}),
    "detectable_format:number_highlighted_sections": (number_highlighted_sections, {"num_highlights": int}),
    "detectable_format:title": (title, {}),
    "keywords:existence": (existence, {"keywords": list}),
    "keywords:forbidden_words": (forbidden_words, {"forbidden_words": list}),
    "keywords:frequency": (frequency, {"keyword": str, "frequency": int, "relation": "r"}),
    "keywords:letter_frequency": (letter_frequency, {"letter": str, "let_frequency": int, "let_relation": "r"}),
    "language:response_language": (response_language, {"language": str}),
    "length_constraints:nth_paragraph_first_word": (
        nth_paragraph_first_word,
        {"num_paragraphs": int, "nth_paragraph": int, "first_word": str},
    ),
    "length_constraints:number_paragraphs": (number_paragraphs, {"num_paragraphs": int}),
    "length_constraints:number_sentences": (number_sentences, {"num_sentences": int, "relation": "r"}),
    "length_constraints:number_words": (number_words, {"num_words": int, "relation": "r"}),
    "punctuation:no_comma": (no_comma, {}),
    "startend:end_checker": (end_checker, {"end_phrase": str}),
    "startend:quotation": (quotation, {}),
}
"""Each instruction's check and the types of its parameters ("r": a relation, "less than" or "at least")."""
