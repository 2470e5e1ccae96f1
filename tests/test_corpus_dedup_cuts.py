"""Paragraphs, lines and spans that repeat across documents: cut from all but one, and exactly those."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from luhuo.corpus.dedup import Verdict
from luhuo.corpus.dedup.folding import fold
from luhuo.corpus.dedup.shingles import tokens
from tests.dedup_cases import deduplicated, record

NOTICE = "This page was printed from the archive of the river town; all rights are with those who wrote it."
NOTICE_ZH = (
    "本页由河边小镇的资料馆打印，版权归原作者所有，转载请注明出处，如有错误请告诉我们，谢谢各位读者的支持与关心。"
)


def without_cuts(text: str, verdict: Verdict) -> str:
    for start, end, _ in reversed(verdict.cuts):
        text = text[:start] + text[end:]
    return text


def cut(tmp_path: Path, texts: list[str], source: str = "a", **config: Any) -> list[str]:
    rows = [record(text, source, place=place) for place, text in enumerate(texts)]
    off = {"near": None, "paragraphs": None}
    found = deduplicated(tmp_path, rows, **(off | config))
    return [without_cuts(row["text"], found[row["id"]]) for row in rows]


@pytest.mark.parametrize("notice", [NOTICE, NOTICE_ZH])
def test_a_paragraph_in_three_documents_stays_in_one(tmp_path: Path, notice: str) -> None:
    texts = [f"First of {name}.\n\n{notice}\n\nLast of {name}." for name in ("ash", "birch", "cedar")]
    left = cut(tmp_path, texts, paragraphs={"min_columns": 60, "times": 3})
    assert sorted(notice in text for text in left) == [False, False, True]
    assert {text for text in left if notice not in text} <= {
        f"First of {name}.\n\nLast of {name}." for name in ("ash", "birch", "cedar")
    }


def test_what_occurs_less_often_or_is_shorter_stays(tmp_path: Path) -> None:
    texts = [f"Of {name}.\n\n{NOTICE}\n\nShort one." for name in ("ash", "birch")]
    assert cut(tmp_path, texts, paragraphs={"min_columns": 60, "times": 3}) == texts
    assert cut(tmp_path / "2", texts, paragraphs={"min_columns": 200, "times": 2}) == texts


def test_a_refrain_within_one_document_is_no_repetition_across_documents(tmp_path: Path) -> None:
    song = "\n\n".join([NOTICE, "One.", NOTICE, "Two.", NOTICE])
    assert cut(tmp_path, [song, "Another."], paragraphs={"min_columns": 60, "times": 2}) == [song, "Another."]


def test_lines_nobody_needs_are_cut_from_all(tmp_path: Path) -> None:
    texts = [f"关注公众号，领取优惠券\n第{name}页的正文。" for name in "一二三四"]
    left = cut(tmp_path, texts, lines={"min_columns": 10, "times": 4, "keep": 0})
    assert left == [f"第{name}页的正文。" for name in "一二三四"]


def test_repeats_are_counted_among_kept_documents_only(tmp_path: Path) -> None:
    text = f"Of ash.\n\n{NOTICE}"
    rows = [record(text, source) for source in ("a", "b", "c")]
    found = deduplicated(tmp_path, rows, paragraphs={"min_columns": 60, "times": 2})
    assert sum(verdict.kept for verdict in found.values()) == 1
    assert all(not verdict.cuts for verdict in found.values())


def naive_cuts(rows: list[dict[str, Any]], length: int) -> dict[str, list[bool]]:
    """Tokens of every document that lie in a window which is not the first of its kind: a table of all windows."""
    seen: dict[bytes, tuple[str, int]] = {}
    lost: dict[str, list[bool]] = {}
    for row in sorted(rows, key=lambda row: row["id"]):
        values = tokens(fold([row["text"]])).values
        lost[row["id"]] = [False] * len(values)
        for place in range(len(values) - length + 1):
            first = seen.setdefault(values[place : place + length].tobytes(), (row["id"], place))
            if first[0] != row["id"] or place - first[1] >= length:
                lost[row["id"]][place : place + length] = [True] * length
    return lost


@pytest.mark.parametrize("seed", range(4))
def test_repeated_spans_are_those_of_a_table_of_all_windows(tmp_path: Path, seed: int) -> None:
    rng, length = random.Random(seed), 12
    alphabet = "甲乙丙丁" if seed % 2 else "戊己庚辛壬癸子丑寅卯辰巳午未申酉"
    texts = ["".join(rng.choices(alphabet, k=rng.randint(5, 90))) for _ in range(30)]
    for _ in range(40):
        source, target = rng.choice(texts), rng.randrange(len(texts))
        start = rng.randrange(len(source))
        texts[target] += source[start : start + rng.randint(8, 40)]
    texts.append("子" * 60)
    rows = [record(text, lang="zh") for text in dict.fromkeys(texts)]
    found = deduplicated(tmp_path, rows, near=None, paragraphs=None, substrings={"tokens": length})
    expected = naive_cuts(rows, length)
    for row in rows:
        mask = [False] * len(row["text"])
        for start, end, _ in found[row["id"]].cuts:
            mask[start:end] = [True] * (end - start)
        assert mask == expected[row["id"]]
    assert any(any(mask) for mask in expected.values())


def test_spans_of_fifty_words_are_cut_in_english_whatever_is_around_them(tmp_path: Path) -> None:
    rng = random.Random(5)
    words = [f"{rng.choice('bcdfg')}{rng.choice('aeiou')}{number}" for number in range(400)]
    span = " ".join(words[:55])
    texts = [
        " ".join([*words[100:120], span, *words[130:150]]),
        " ".join([*words[200:230], span.upper() + ",", "end"]),
    ]
    left = cut(tmp_path, texts, paragraphs=None, substrings={"tokens": 50})
    assert sorted(span in text.lower() for text in left) == [False, True]
    texts = [text.replace(words[30], "other" + str(place)) for place, text in enumerate(texts)]
    assert cut(tmp_path / "2", texts, paragraphs=None, substrings={"tokens": 50}) == texts
