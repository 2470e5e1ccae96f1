"""Looking through a corpus: filters find what a plain scan finds, documents are shown as they were written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from luhuo.browse import query as searching
from luhuo.browse.columns import Index
from luhuo.browse.document import document
from luhuo.browse.query import Query, Range, row_of, search
from luhuo.browse.worker import Searcher
from luhuo.core.artifact import produce, verify
from luhuo.core.errors import LuhuoError
from luhuo.corpus.documents import SPLITS, read_documents
from luhuo.corpus.stages import CorpusStage
from luhuo.report.corpus_card import rows as reading
from luhuo.report.corpus_card.family import open_corpus
from luhuo.report.corpus_card.rows import parts, rows
from tests.corpus_view_cases import EMAIL, PHONE, english, make_corpus, write

PEOPLE = re.compile("[0-9]{3} (people|berries)")


def found(index: Index, query: Query, limit: int = 1000) -> list[tuple[int, int]]:
    """Places of all documents that fit, page after page."""
    places: list[tuple[int, int]] = []
    start: tuple[int, int] | None = (0, 0)
    while start is not None:
        page = search(index, query, start, limit)
        places += [(hit["part"], hit["line"]) for hit in page.hits]
        start = page.next
    return places


def test_every_filter_finds_what_a_scan_of_all_rows_finds(clean_corpus: Path) -> None:
    corpus = open_corpus(clean_corpus)
    index = Index(corpus)
    everything = [(n, row) for n, part in enumerate(parts(corpus)) for row in rows(corpus, part)]

    def words(row: reading.Row) -> float:
        return row.signals.get("gopher.words", -1)

    for query, fits in (
        (Query(), lambda _: True),
        (Query(state="kept"), lambda row: not row.reasons),
        (Query(state="dropped"), lambda row: row.reasons),
        (Query(reason="repeated_phrases"), lambda row: "repeated_phrases" in [code for code, _ in row.reasons]),
        (Query(source="papers", lang="en"), lambda row: row.record["source"] == "papers"),
        (Query(lang="zh"), lambda row: row.record["lang"] == "zh"),
        (Query(text="THE SCHOOL"), lambda row: "the school" in row.record["text"].lower()),
        (Query(text="THE SCHOOL", case=True), lambda _: False),
        (Query(text="[0-9]{3} (people|berries)", regex=True), lambda row: PEOPLE.search(row.record["text"])),
        (Query(text="钟楼", state="kept"), lambda row: "钟楼" in row.record["text"] and not row.reasons),
        (Query(signals=(Range(name="gopher.words", min=70, max=80),)), lambda row: 70 <= words(row) <= 80),
        (Query(signals=(Range(name="nothing.here", min=0),)), lambda _: False),
        (Query(reason="no such reason"), lambda _: False),
    ):
        wanted = [(part, row.line) for part, row in everything if fits(row)]
        assert found(index, query) == wanted == found(index, query, limit=3), query
    assert len(found(index, Query(state="changed"))) == 6, "five with a paragraph cut out, one with personal data"


def test_a_search_goes_on_where_its_time_ended(clean_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index(open_corpus(clean_corpus))
    whole = found(index, Query(text="the"))
    monkeypatch.setattr(searching, "BUDGET_S", 0.0)
    assert search(index, Query(text="the"), (0, 0), 1000).next == (0, whole[0][1] + 1)
    assert found(index, Query(text="the")) == whole


def test_what_is_shown_as_written_is_what_the_filter_stage_wrote(clean_corpus: Path) -> None:
    index = Index(open_corpus(clean_corpus))
    written = {row["id"]: row["text"] for split in SPLITS for row in read_documents(clean_corpus, split)}
    kept = found(index, Query(state="kept"))
    assert len(kept) == len(written)
    marks = set()
    for part, line in kept:
        told = document(index, part, line)
        assert "".join(text for text, _, _ in told["after"]) == written[told["about"]["id"]]
        assert "".join(text for text, _, _ in told["before"]) == row_of(index, part, line)[1].record["text"]
        marks |= {mark for _, mark, _ in told["before"]}
    assert marks == {"", "cut:paragraph", "personal:phone", "personal:email"}


def test_synthetic_values_are_shown_as_they_were_written_to_who_has_the_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", "a secret")
    clean_corpus = make_corpus(tmp_path, 12, privacy="synthetic", privacy_key="THE_KEY", seed=5)
    index = Index(open_corpus(clean_corpus))
    (place,) = found(index, Query(state="changed"))
    told = document(index, *place)
    written = {row["id"]: row["text"] for split in SPLITS for row in read_documents(clean_corpus, split)}
    assert "".join(text for text, _, _ in told["after"]) == written[told["about"]["id"]]
    put = [text for text, mark, _ in told["after"] if mark == "personal:phone"]
    assert len(put) == 2 and put[0] == put[1] != PHONE
    monkeypatch.delenv("THE_KEY")
    put = [text for text, mark, _ in document(index, *place)["after"] if mark == "personal:phone"]
    assert put[0] == put[1] and put[0].startswith("<")


def test_hidden_personal_data_keeps_its_form_only(clean_corpus: Path) -> None:
    index = Index(open_corpus(clean_corpus))
    (place,) = found(index, Query(text=PHONE))
    told = document(index, *place)
    hidden = "".join(masked for _, _, masked in told["before"])
    assert PHONE not in hidden and EMAIL not in hidden and "00000000000" in hidden


def test_signals_stand_beside_their_limits_with_what_is_broken_first(clean_corpus: Path) -> None:
    index = Index(open_corpus(clean_corpus))
    told = document(index, *found(index, Query(reason="mojibake_gbk"))[0])
    first, rest = told["signals"][0], told["signals"][2:]
    assert first["broken"] and first["reason"] in {reason["code"] for reason in told["reasons"]}
    assert not any(one["broken"] for one in rest)
    assert all(reason["why"] for reason in told["reasons"]) and told["after"] is None


def test_items_of_evaluation_sets_in_a_document_are_told(clean_corpus: Path) -> None:
    index = Index(open_corpus(clean_corpus))
    (place,) = found(index, Query(reason="benchmark"))
    told = document(index, *place)
    values = {one["name"]: one["value"] for one in told["signals"]}
    assert values["benchmark.quiz"] == ["quiz.jsonl:1#quiz-7"]


def test_columns_are_made_once_and_again_for_another_corpus(
    clean_corpus: Path, browse_cache: Path, tmp_path: Path
) -> None:
    index = Index(open_corpus(clean_corpus))
    part = parts(index.corpus)[0]
    index.columns(part)
    files = {file: file.stat().st_mtime_ns for file in browse_cache.rglob("*.npz")}
    Index(open_corpus(clean_corpus)).columns(part)
    assert {file: file.stat().st_mtime_ns for file in browse_cache.rglob("*.npz")} == files
    other = Index(open_corpus(make_corpus(tmp_path, 5)))
    assert len(other.columns(parts(other.corpus)[0])) != len(index.columns(part))
    verify(clean_corpus)


def test_damaged_columns_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUHUO_CACHE", str(tmp_path / "cache"))
    clean_corpus = make_corpus(tmp_path, 5)
    part = parts(open_corpus(clean_corpus))[0]
    ids = Index(open_corpus(clean_corpus)).columns(part).ids.tolist()
    file = next((tmp_path / "cache").rglob(f"{part.name}.npz"))
    whole = file.read_bytes()
    for damaged in (whole[:200], b"", whole[:-1000] + b"x" * 1000):
        file.write_bytes(damaged)
        assert Index(open_corpus(clean_corpus)).columns(part).ids.tolist() == ids
    assert file.read_bytes() == whole


def test_the_documents_of_a_large_split_are_found_by_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 7)
    raw = write(tmp_path / "raw.jsonl", [{"text": english(n)} for n in range(40)])
    plain = produce(
        "corpus", CorpusStage.parse({"sources": [{"name": "tales", "path": str(raw)}]}), tmp_path / "plain"
    ).path
    index = Index(open_corpus(plain))
    assert len(parts(index.corpus)) == 8, "38 documents of train in six blocks, valid, test"
    texts = [row["text"] for split in SPLITS for row in read_documents(plain, split)]
    assert [row_of(index, *place)[1].record["text"] for place in found(index, Query())] == texts


def test_without_the_annotate_artifact_dropped_documents_are_still_found(tmp_path: Path) -> None:
    clean_corpus = make_corpus(tmp_path, 15)
    report = json.loads((clean_corpus / "report.json").read_text())
    shutil.rmtree(tmp_path / "annotated")
    index = Index(open_corpus(clean_corpus))
    assert len(found(index, Query(state="kept"))) == report["kept"]
    dropped = found(index, Query(state="dropped"))
    assert len(dropped) == report["read"] - report["kept"]
    assert document(index, *dropped[0])["reasons"][0]["code"] in report["dropped"]


# The process that searches


def test_an_expression_that_never_ends_is_stopped_and_the_next_search_works(clean_corpus: Path) -> None:
    with Searcher(clean_corpus, patience_s=30) as held:
        held.about()
        held.patience_s = 1.5
        with pytest.raises(LuhuoError, match="no answer within") as error:
            held.search(Query(text="([a-z ]+)+#", regex=True))
        assert "repeats inside repeats" in str(error.value)
        held.patience_s = 30
        assert len(held.search(Query(text=PHONE))["hits"]) == 1


def test_a_process_that_ended_is_told_and_started_again(clean_corpus: Path) -> None:
    with Searcher(clean_corpus) as held:
        held.about()
        process = held._process
        assert process is not None
        process.kill()
        process.wait()
        assert held.search(Query(text=PHONE))["hits"], "started again before it was asked"
        shutil.move(clean_corpus, clean_corpus.parent / "moved")
        try:
            held.close()
            with pytest.raises(LuhuoError, match="not a Luhuo artifact"):
                held.about()
        finally:
            shutil.move(clean_corpus.parent / "moved", clean_corpus)


def test_mistakes_come_back_as_words(searcher: Searcher) -> None:
    for query in (Query(text="(", regex=True), Query(id="xyz")):
        with pytest.raises(LuhuoError, match="This is not"):
            searcher.search(query)
    for place in ((0, 10**6), (99, 0), (-1, 0)):
        with pytest.raises(LuhuoError, match="no such document"):
            searcher.document(*place)
