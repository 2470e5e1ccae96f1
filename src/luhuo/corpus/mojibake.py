"""Text that was read in a wrong encoding, put right where that can be done without a doubt.

Three mistakes make nearly all of it: UTF-8 read as Latin-1 or Windows-1252 (`ä½ å¥½`, `donâ€™t`), GB 18030 read as
Latin-1 (`ÄãºÃ`) and UTF-8 read as GB 18030 (`浣犲ソ`), also one after the other. Each is undone by doing it backwards,
which hardly ever succeeds with text that was right, and is kept only if what comes out is plausible writing and the
rest of the text agrees. What was lost (锟斤拷, 烫烫烫, �) cannot be had back: the signals show it.

A text is to be repaired before it is normalised: half of the evidence are control characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from luhuo.files.characters import FREQUENT

WINDOWS = {
    0x80: "€", 0x82: "‚", 0x83: "ƒ", 0x84: "„", 0x85: "…", 0x86: "†", 0x87: "‡", 0x88: "ˆ", 0x89: "‰", 0x8A: "Š",
    0x8B: "‹", 0x8C: "Œ", 0x8E: "Ž", 0x91: "‘", 0x92: "’", 0x93: "“", 0x94: "”", 0x95: "•", 0x96: "–", 0x97: "—",
    0x98: "˜", 0x99: "™", 0x9A: "š", 0x9B: "›", 0x9C: "œ", 0x9E: "ž", 0x9F: "Ÿ",
}  # fmt: skip
SPECIAL = "".join(WINDOWS.values())
TO_BYTE = {ord(character): chr(byte) for byte, character in WINDOWS.items()}

WESTERN = re.compile(f"[\u0080-\u00ff{SPECIAL}]{{2,}}")
SUSPECT = re.compile(f"[\u00c2-\u00f4][\u0080-\u00bf{SPECIAL}]")
FIRM = re.compile("[\u0080-\u00aa\u00ac-\u00b6\u00b8-\u00ba\u00bc-\u00be€ƒ†‡ˆ‰ŠŒŽ˜™šœžŸ]")
"""Continuations that do not follow a letter in any language: quotes, dashes, dots and guillemets do."""
LATIN_RUN = re.compile("[\u00a1-\u00ff][\u00a1-\u00ff]{3}")
"""Written so that it begins with a set of characters: that is what a scan is fast for."""
HAN = re.compile("[\u4e00-\u9fff]")

GBK_SIGNS = "锛銆鈥"
"""What ，！。、“” become when their UTF-8 is read as GB 18030; hardly a text holds these characters otherwise."""
GBK_MARKS = frozenset(
    bytes((lead, trail)).decode("gb18030") for lead in range(0xE4, 0xEA) for trail in range(0x80, 0xC0)
) | frozenset(GBK_SIGNS)
"""What the first two bytes of every Chinese character become so."""
GBK_MARK = re.compile(f"[{''.join(sorted(GBK_MARKS))}]")
GBK_SHARE = 0.2
SHORT = 200
"""A text up to this length is looked at for `GBK_MARKS` even without `GBK_SIGNS`."""

ROUNDS = 3
LOST = 0.03
"""The share of a line's characters that may be beyond repair, and one more: its last byte is often lost."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """`how`: what the text had been read as, "" if it was left as it is: "latin-1", "windows-1252", "gb18030" (and was
    UTF-8), "latin-1:gb18030" (and was GB 18030), "latin-1:big5hkscs"; joined by "+" if it happened twice."""

    text: str
    how: str = ""


def repair(text: str) -> Repaired:
    """The text with such mistakes undone. Text without them comes back as it is."""
    steps: list[str] = []
    while not text.isascii() and len(steps) < ROUNDS:
        better, how = _western(text)
        if not how:
            better, how = _chinese_as_latin(text)
        if not how:
            better, how = _as_gb18030(text)
        if not how:
            break
        text = better
        steps.append(how)
    return Repaired(text, "+".join(steps))


def _western(text: str) -> tuple[str, str]:
    """UTF-8 that was read byte by byte."""
    if SUSPECT.search(text) is None:
        return text, ""
    good: dict[str, str] = {}
    odd: dict[str, str] = {}
    firm = wide = other = 0
    for found in WESTERN.finditer(text):
        run = found.group()
        decoded = _decoded(run)
        if decoded is None:
            other += 1
            continue
        if not _is_written(decoded):
            odd[run] = decoded
            continue
        good[run] = decoded
        sure = FIRM.search(run) is not None
        firm += sure
        wide += sure and len(decoded) * 2 < len(run)  # three bytes and more to a character
    if not firm or firm < other:
        return text, ""
    good = odd | good if wide else good
    how = "windows-1252" if any(c in SPECIAL for run in good for c in run) else "latin-1"
    return WESTERN.sub(lambda found: good.get(found.group(), found.group()), text), how


def _decoded(run: str) -> str | None:
    """The run as the UTF-8 it may be, or None if it is not."""
    try:
        return run.translate(TO_BYTE).encode("latin-1").decode("utf-8")
    except UnicodeError:
        return None


def _is_written(text: str) -> bool:
    """Whether people write such characters, or they are the same mistake once more."""
    if all(map(_plausible, text)):
        return True
    again = _decoded(text) if WESTERN.fullmatch(text) else None
    return again is not None and _is_written(again)


def _plausible(character: str) -> bool:
    point = ord(character)
    return (
        0xA0 <= point <= 0x17F
        or 0x386 <= point <= 0x3CE
        or 0x401 <= point <= 0x451
        or 0x5D0 <= point <= 0x5EA
        or 0x621 <= point <= 0x6CC
        or 0x900 <= point <= 0xE5B
        or 0x1EA0 <= point <= 0x1EF9
        or 0x2010 <= point <= 0x203A
        or character in "€™←↑→↓≤≥≠≈∞√●○■□★☆№℃\ufeff\ufffd"
        or 0x3000 <= point <= 0x30FF
        or 0x4E00 <= point <= 0x9FFF
        or 0xAC00 <= point <= 0xD7A3
        or 0xFF01 <= point <= 0xFF5E
        or 0x1F300 <= point <= 0x1FAFF
    )


def _chinese_as_latin(text: str) -> tuple[str, str]:
    """GB 18030 or Big5 that was read byte by byte."""
    if LATIN_RUN.search(text) is None:
        return text, ""
    best, how, most = text, "", 0.4
    for codec in ("gb18030", "big5hkscs"):
        lines = text.split("\n")
        strange: list[str] = []
        for number, line in enumerate(lines):
            try:
                lines[number] = line if line.isascii() else line.translate(TO_BYTE).encode("latin-1").decode(codec)
            except UnicodeError:
                continue
            strange += [c for c in lines[number] if c >= "\x80"]
        share = _frequent(strange)
        if share > most:
            best, how, most = "\n".join(lines), f"latin-1:{codec}", share
    return best, how


def _frequent(characters: list[str] | str) -> float:
    """The share of frequent ones among the Han characters; 0 if there are hardly any among the characters."""
    han = [c for c in characters if HAN.match(c)]
    return sum(c in FREQUENT for c in han) / len(han) if len(han) * 2 >= max(2, len(characters)) else 0.0


def _as_gb18030(text: str) -> tuple[str, str]:
    """UTF-8 that was read as GB 18030: all lines in which that shows, or none."""
    if not (GBK_MARK.search(text) if len(text) <= SHORT else any(sign in text for sign in GBK_SIGNS)):
        return text, ""
    changed = False
    lines = text.split("\n")
    for number, line in enumerate(lines):
        strange = [c for c in line if c >= "\x80"]
        marks = sum(c in GBK_MARKS for c in strange)
        if marks >= 2 and marks >= GBK_SHARE * len(strange):
            better = _line(line, strange)
            if better is None:
                return text, ""
            lines[number], changed = better, True
    return ("\n".join(lines), "gb18030") if changed else (text, "")


def _line(line: str, strange: list[str]) -> str | None:
    try:
        text = line.replace("\ufffd", "").encode("gb18030").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return None
    after = [c for c in text if c >= "\x80"]
    if not after or after.count("\ufffd") > LOST * len(after) + 1 or not _is_written("".join(after)):
        return None
    before, now = _frequent(strange), _frequent([c for c in after if c != "\ufffd" and HAN.match(c)])
    return text if now >= 0.35 and now > before + 0.15 else None
