"""The stage deduplicate: exact and near duplicates, clusters, what is kept, and the same bytes in any order."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from luhuo.core.errors import LuhuoError
from tests.dedup_cases import deduplicated, edited, record

STORY = (
    "The bus to Northvale was late, and Yin sat down beside a stranger with a calf on a string. Friday is a bad day "
    "for travelling, the stranger said, and offered a dumpling. They talked about skating and the price of roots."
)
ZH = (
    "去高屯镇的车晚点了，胡斌在一个牵着一只兔子的陌生人身边坐下。星期三不宜出门，陌生人说着，递过来一块年糕。"
    "他们聊种花，聊天气，聊山药的价钱。车来的时候，胡斌已经知道这人叫程宁了。"
)


def test_case_blanks_and_width_of_punctuation_make_no_difference(tmp_path: Path) -> None:
    rows = [record("Hello, World!  1 + 1"), record("hello，world！1+1", "b"), record("hello, world! 1 - 1")]
    found = deduplicated(tmp_path, rows)
    assert [found[row["id"]].kept for row in rows].count(False) == 1
    assert found[rows[2]["id"]].kept
    lost = next(verdict for verdict in found.values() if not verdict.kept)
    assert lost.reason == "exact" and lost.of in {rows[0]["id"], rows[1]["id"]}


@pytest.mark.parametrize("text", [STORY, ZH])
def test_a_copy_with_five_percent_of_its_characters_edited_is_found(tmp_path: Path, text: str) -> None:
    copy = edited(text, 0.05, random.Random(1))
    rows = [record(text), record(copy), record("Something else entirely, of no length to speak of." * 4)]
    found = deduplicated(tmp_path, rows)
    one, other, apart = (found[row["id"]] for row in rows)
    assert {one.kept, other.kept} == {True, False}
    assert one.cluster == other.cluster == min(rows[0]["id"], rows[1]["id"])
    assert apart.kept and apart.cluster == rows[2]["id"]
    assert next(verdict.reason for verdict in (one, other) if not verdict.kept) == "near"


def test_another_text_of_the_same_form_is_no_duplicate(tmp_path: Path) -> None:
    other = (
        "The bus to Deepport was late, and Fang sat down beside a stranger with a hen on a string. Sunday is a bad "
        "day for travelling, the stranger said, and offered a candy. They talked about chess and the price of rice."
    )
    assert all(verdict.kept for verdict in deduplicated(tmp_path, [record(STORY), record(other)]).values())


def test_the_best_source_wins_then_the_longest_text(tmp_path: Path) -> None:
    rows = [record(STORY, "web"), record(STORY[:-4], "books"), record(STORY + " So.", "web")]
    found = deduplicated(tmp_path / "1", rows, priority=["books", "web"])
    assert [found[row["id"]].kept for row in rows] == [False, True, False]
    found = deduplicated(tmp_path / "2", rows)
    assert [found[row["id"]].kept for row in rows] == [False, False, True]


def test_sources_can_be_kept_apart(tmp_path: Path) -> None:
    rows = [record(STORY, "web"), record(STORY, "books"), record(STORY[:-4], "books"), record(STORY[:-4], "web")]
    found = deduplicated(tmp_path, rows, across=False)
    assert [found[row["id"]].kept for row in rows] == [True, True, False, False]


def test_blank_texts_are_not_each_others_duplicates(tmp_path: Path) -> None:
    rows = [record(" \n", "a"), record("\u3000", "b")]
    assert all(verdict.kept for verdict in deduplicated(tmp_path, rows).values())


def test_a_corpus_without_records_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="no records"):
        deduplicated(tmp_path, [])


@pytest.mark.parametrize("package", ["rensa", "rapidfuzz"])
def test_a_missing_library_is_told_with_the_extra_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(LuhuoError, match=package) as caught:
        deduplicated(tmp_path, [record(STORY)])
    assert "luhuo[data]" in str(caught.value)
    assert all(verdict.kept for verdict in deduplicated(tmp_path / "exact", [record(STORY)], near=None).values())
