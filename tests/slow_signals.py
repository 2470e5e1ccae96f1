"""The published rules written down plainly, one text and one character at a time, to compare the fast ones with."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

GOPHER_STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")


def lines_of(text: str) -> list[str]:
    """Lines that are not empty."""
    return [line.strip() for line in text.split("\n") if line.strip()]


def paragraphs_of(text: str) -> list[str]:
    """What stands between empty lines."""
    found: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip():
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return ["\n".join(lines).strip() for lines in found if lines]


def units_of(text: str, lang: str) -> list[str]:
    """Words, or for Chinese single characters and runs of other letters and digits."""
    if lang != "zh":
        return text.lower().split()
    units, run = [], ""
    for character in text.lower():
        han = bool(HAN.match(character)) or "\u3041" <= character <= "\u30ff" or "\u3005" <= character <= "\u3007"
        word = character.isalnum() or unicodedata.category(character) in ("Mn", "Mc")
        if run and (han or not word):
            units.append(run)
            run = ""
        if han and word:
            units.append(character)
        elif word:
            run += character
    return [*units, run] if run else units


def again(pieces: Sequence[object]) -> list[bool]:
    """Whether each piece stood there before."""
    seen: set[object] = set()
    found = []
    for piece in pieces:
        found.append(piece in seen)
        seen.add(piece)
    return found


def share(part: float, whole: float) -> float:
    """part / whole, 0 of nothing."""
    return part / whole if whole else 0.0


def repetition(text: str, lang: str) -> dict[str, float]:
    """Rae et al. 2021, table A1."""
    values: dict[str, float] = {}
    for name, pieces in (("line", lines_of(text)), ("paragraph", paragraphs_of(text))):
        repeated = again([piece.lower() for piece in pieces])
        values[f"duplicate_{name}s"] = share(sum(repeated), len(pieces))
        chars = sum(len(piece) for piece, old in zip(pieces, repeated, strict=True) if old)
        values[f"duplicate_{name}_chars"] = share(chars, sum(map(len, pieces)))
    units = units_of(text, lang)
    total = sum(map(len, units))
    for n in (2, 3, 4):
        grams = Counter(tuple(units[i : i + n]) for i in range(len(units) - n + 1))
        most = max(grams.values(), default=0)
        longest = max((sum(map(len, gram)) for gram, count in grams.items() if count == most), default=0)
        values[f"top_{n}gram"] = min(1.0, share(most * longest, total)) if most > 1 else 0.0
    for n in (*range(5, 11), *((13,) if lang == "zh" else ())):
        covered = [False] * len(units)
        for i, old in enumerate(again([tuple(units[i : i + n]) for i in range(len(units) - n + 1)])):
            for place in range(i, i + n if old else i):
                covered[place] = True
        chars = sum(len(unit) for unit, inside in zip(units, covered, strict=True) if inside)
        values[f"duplicate_{n}gram"] = share(chars, total)
    return values


def gopher(text: str) -> dict[str, float]:
    """Rae et al. 2021, appendix A.1.1."""
    words, lines = text.split(), lines_of(text)
    alphabetic = [word for word in words if any(c.isalpha() for c in word)]
    stops = [word.lower() for word in words if word.lower() in GOPHER_STOP_WORDS]
    ellipses = text.count("…") + sum(len(run) // 3 for run in re.findall(r"\.{3,}", text))
    return {
        "words": len(words),
        "mean_word_length": share(sum(map(len, words)), len(words)),
        "hash_words": share(text.count("#"), len(words)),
        "ellipsis_words": share(ellipses, len(words)),
        "bullet_lines": share(sum(line[0] in "•‣▶◀◦■□▪▫–*-●○·" for line in lines), len(lines)),
        "ellipsis_lines": share(sum(line.endswith(("...", "…")) for line in lines), len(lines)),
        "alpha_words": share(len(alphabetic), len(words)),
        "stop_words": len(set(stops)),
        "missing_stop_words": max(0.06 * len(alphabetic) - len(stops), 0),
    }


def c4(text: str) -> dict[str, float]:
    """Raffel et al. 2020, section 2.2."""
    lines = lines_of(text)
    policies = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")

    def having(*phrases: str) -> float:
        bounded = [re.compile(rf"(?<![a-z0-9]){re.escape(phrase)}(?![a-z0-9])") for phrase in phrases]
        return share(sum(any(p.search(line.lower()) for p in bounded) for line in lines), len(lines))

    return {
        "terminal_lines": share(sum(line.endswith((".", "!", "?", '"', "'", "”", "’")) for line in lines), len(lines)),
        "short_lines": share(sum(len(line.split()) < 5 for line in lines), len(lines)),
        "javascript_lines": having("javascript"),
        "policy_lines": having(*policies),
        "lorem_ipsum": len(re.findall(r"\blorem ipsum\b", text.lower())),
        "sentences": len(re.findall(r"[.!?](?=[\s\"'”’)\]»]|\Z)", text)),
        "curly_brackets": text.count("{"),
    }


def fineweb(text: str) -> dict[str, float]:
    """Penedo et al. 2024, section 3.6."""
    lines = lines_of(text)
    marks = tuple(".!?\"'”’…:;,)]}»。！？；：，、”’」』）】》")
    return {
        "punctuated_lines": share(sum(line.endswith(marks) for line in lines), len(lines)),
        "short_lines": share(sum(len(line) < 30 for line in lines), len(lines)),
        "breaks_per_word": share(text.count("\n"), len(text.split())),
    }


def chinese(text: str) -> dict[str, float]:
    """The Chinese counterparts, without the share of the traditional script."""
    lines, han = lines_of(text), HAN.findall(text)
    function = set(
        "的了是在和有不我他她它这那就也都与及为以于或对等上中之其而者所则乃曰矣哉焉无無為與於這們们對来來個个会會可"
    )
    ended = 0
    for line in lines:
        for _ in range(4):
            if len(line) > 1 and line[-1] in "”’」』）)】》〉〕］\"'*`_":
                line = line[:-1]
        ended += line[-1] in "。！？…；：，、．.!?;:,—～"
    stops = sum(c in function for c in han)
    return {
        "han": share(len(han), sum(c.isalpha() for c in text)),
        "ended_lines": share(ended, len(lines)),
        "mean_line": share(sum(map(len, lines)), len(lines)),
        "stop_characters": share(stops, len(han)),
        "missing_stop_characters": max(0.04 * len(han) - stops, 0),
    }
