"""The corpus stage: what is kept, what is not and why, and on which side of the split it falls."""

from __future__ import annotations

import json

import pytest

from luhuo.core.artifact import produce, read_manifest
from luhuo.core.errors import LuhuoError
from luhuo.corpus.documents import SPLITS, documents_path, heldout, read_documents
from luhuo.corpus.normalise import language, normalise
from luhuo.corpus.pieces import pieces
from luhuo.corpus.split import Splitter
from luhuo.corpus.stages import CorpusStage


def jsonl(path, rows) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return str(path)


def make(tmp_path, *sources, name="text", **options):
    return produce("corpus", CorpusStage.parse({"sources": list(sources), **options}), tmp_path / name).path


def everything(corpus) -> list[dict]:
    return [d | {"split": s} for s in SPLITS for d in read_documents(corpus, s)]


ENGLISH = [{"text": f"The furnace number {i} burns blue."} for i in range(300)]
CHINESE = [{"text": f"第{i}座炉子的火是蓝色的。"} for i in range(300)]


def test_every_record_is_kept_or_accounted_for(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [*ENGLISH, ENGLISH[0], {"text": "The furnace number 5 burns blue.\r\n"}, {"body": "x"}, {"text": "no"}]
    jsonl(path, rows)
    path.write_text(path.read_text() + "{broken\n")
    corpus = make(tmp_path, {"name": "a", "path": str(path), "min_chars": 5, "licence": "CC0-1.0"})
    (report,) = json.loads((corpus / "report.json").read_text())["sources"].values()
    assert (report["read"], report["kept"], report["duplicates"]) == (305, 300, 2)
    assert report["broken"] == {"bad_json": 1, "missing_field": 1, "too_short": 1}
    quarantine = [json.loads(line) for line in (corpus / "quarantine.jsonl").read_text().splitlines()]
    assert [(q["line"], q["reason"]) for q in quarantine] == [
        (301, "duplicate"),
        (302, "duplicate"),
        (303, "missing_field"),
        (304, "too_short"),
        (305, "bad_json"),
    ]
    found = everything(corpus)
    assert sorted(d["text"] for d in found) == sorted(r["text"] for r in ENGLISH)
    assert all(d.keys() >= {"id", "text", "lang", "source", "licence"} for d in found)
    assert len({d["id"] for d in found}) == 300


def test_a_text_in_two_sources_is_kept_once(tmp_path):
    one = {"name": "one", "path": jsonl(tmp_path / "1.jsonl", ENGLISH)}
    two = {"name": "two", "path": jsonl(tmp_path / "2.jsonl", [*ENGLISH[:100], *CHINESE])}
    corpus = make(tmp_path, one, two)
    texts = [d["text"] for d in everything(corpus)]
    assert len(texts) == len(set(texts)) == 600


def test_the_side_of_a_text_depends_on_the_text_and_the_seed_only(tmp_path):
    options = {"valid": 0.1, "test": 0.1}
    one = {"name": "a", "path": jsonl(tmp_path / "1.jsonl", ENGLISH), **options}
    two = {"name": "b", "path": jsonl(tmp_path / "2.jsonl", [*reversed(ENGLISH), *CHINESE]), **options}
    sides = {d["text"]: d["split"] for d in everything(make(tmp_path, one, name="x"))}
    again = {d["text"]: d["split"] for d in everything(make(tmp_path, two, name="y"))}
    other = {d["text"]: d["split"] for d in everything(make(tmp_path, one, name="z", seed=1))}
    assert sides == {t: s for t, s in again.items() if t in sides}
    assert sides != other
    assert 10 < list(sides.values()).count("test") < 60


def test_the_same_run_elsewhere_writes_the_same_bytes(tmp_path):
    digests = []
    for place in ("here", "there"):
        source = {"name": "a", "path": jsonl(tmp_path / place / "a.jsonl", [*ENGLISH, *ENGLISH[:3], {"no": 1}])}
        digests.append(read_manifest(make(tmp_path / place, source))["digest"])
    assert digests[0] == digests[1]


@pytest.mark.parametrize("count", [3, 4, 10, 40])
def test_a_small_source_still_has_held_out_documents(count):
    for seed in range(40):
        splitter = Splitter(0.01, 0.01, seed)
        names = [f"document {i}" for i in range(count)]
        for name in names:
            splitter.see(name)
        sides = [splitter.side(n) for n in names]
        assert {"test", "valid", "train"} <= set(sides)


def test_a_share_of_zero_holds_nothing_out():
    splitter = Splitter(0, 0, 0)
    for i in range(50):
        splitter.see(str(i))
    assert {splitter.side(str(i)) for i in range(50)} == {"train"}


def test_a_given_split_is_kept_and_held_out_texts_are_not_trained_on(tmp_path):
    folder = tmp_path / "pages"
    jsonl(folder / "train.jsonl", [*ENGLISH[:50], ENGLISH[60]])
    jsonl(folder / "valid.jsonl", ENGLISH[50:55])
    jsonl(folder / "test.jsonl", ENGLISH[60:70])
    corpus = make(tmp_path, {"name": "a", "path": str(folder), "presplit": True})
    found = {s: [d["text"] for d in read_documents(corpus, s)] for s in SPLITS}
    assert [len(found[s]) for s in SPLITS] == [50, 5, 10]
    assert ENGLISH[60]["text"] in found["test"]


def test_a_folder_that_is_not_split_is_refused_as_split(tmp_path):
    jsonl(tmp_path / "pages" / "other.jsonl", ENGLISH)
    with pytest.raises(LuhuoError, match="not split"):
        make(tmp_path, {"name": "a", "path": str(tmp_path / "pages"), "presplit": True})


def test_a_source_that_gives_nothing_is_an_error_and_nothing_is_left_under_the_name(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"body": "x"}] * 5)
    with pytest.raises(LuhuoError) as error:
        make(tmp_path, {"name": "a", "path": path})
    assert "missing_field" in str(error.value)
    assert not (tmp_path / "text").exists()


def test_two_sources_of_one_name_are_refused():
    with pytest.raises(LuhuoError, match="not valid"):
        CorpusStage.parse({"sources": [{"name": "a", "path": "x"}, {"name": "a", "path": "y"}]})


def test_a_cap_stops_a_source_and_says_so(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", ENGLISH)
    corpus = make(tmp_path, {"name": "a", "path": path, "max_mb": 0.002})
    (report,) = json.loads((corpus / "report.json").read_text())["sources"].values()
    assert report["capped"]
    assert 2000 <= sum(s["bytes"] for s in report["splits"].values()) < 2100


def test_the_manifest_names_each_source_with_digest_and_licence(tmp_path):
    source = {"name": "a", "path": jsonl(tmp_path / "a.jsonl", ENGLISH), "licence": "CC0-1.0"}
    manifest = read_manifest(make(tmp_path, source))
    (named,) = manifest["sources"]
    assert (named["name"], named["licence"], len(named["sha256"])) == ("a", "CC0-1.0", 64)
    assert manifest["licences"] == ["CC0-1.0"]
    assert manifest["metrics"]["documents.train"] > 200


def test_long_documents_are_cut_and_stay_on_one_side(tmp_path):
    rows = [{"text": "\n\n".join(f"Chapter {c}, paragraph {p}. " + "x" * 50 for p in range(20))} for c in range(30)]
    path = jsonl(tmp_path / "a.jsonl", rows)
    corpus = make(tmp_path, {"name": "a", "path": path, "piece_chars": 400, "valid": 0.1, "test": 0.2})
    sides: dict[str, set[str]] = {}
    for document in everything(corpus):
        assert len(document["text"]) <= 400
        sides.setdefault(document["id"].split("-")[0], set()).add(document["split"])
    assert len(sides) == 30
    assert all(len(s) == 1 for s in sides.values())


def test_pieces_end_at_the_best_border_and_lose_nothing_but_blanks():
    text = "甲乙丙。\n\n" * 30 + "无标点" * 100 + "one two. " * 40
    cut = list(pieces(text, 100))
    assert all(0 < len(p) <= 100 for p in cut)
    assert "".join("".join(cut).split()) == "".join(text.split())
    assert cut[0].endswith("。")
    assert list(pieces("short", 100)) == ["short"]


def test_languages_are_told_by_script_or_by_the_record(tmp_path):
    rows = [*ENGLISH, *CHINESE, {"text": "12 + 30 = 42, surely", "lang": "zh"}]
    corpus = make(tmp_path, {"name": "a", "path": jsonl(tmp_path / "a.jsonl", rows)})
    for document in everything(corpus):
        expected = "en" if document["text"].startswith("The") else "zh"
        assert document["lang"] == expected
    assert language("12345") == "en"


def test_chinese_punctuation_is_left_alone():
    marks = "，。！？：；“”‘’（）《》【】、…—～￥％"
    assert normalise(marks) == marks


def test_full_width_letters_and_digits_become_half_width():
    assert normalise("ＡＢＣｘｙｚ０１２９，（ａ）") == "ABCxyz0129，（a）"


def test_line_ends_compositions_and_control_characters_are_made_uniform():
    assert normalise("a\r\nb\rc\u2028d \t\ne\x00\x08f\ufeff") == "a\nb\nc\nd\nef"
    assert normalise("cafe\u0301") == "café"
    assert normalise("a\n\n\n\n\n\nb") == "a\n\n\nb"
    assert normalise("👩\u200d👧") == "👩\u200d👧"  # the joiner of an emoji carries meaning
    for text in ("a\r\nb", "ＡＢＣ cafe\u0301", "x  \n\n\n\n\ny"):
        assert normalise(normalise(text)) == normalise(text)


def test_held_out_text_comes_by_source(tmp_path):
    options = {"valid": 0.1, "test": 0.1}
    one = {"name": "en-part", "path": jsonl(tmp_path / "1.jsonl", ENGLISH), **options}
    two = {"name": "zh-part", "path": jsonl(tmp_path / "2.jsonl", CHINESE), **options}
    found = list(heldout(make(tmp_path, one, two)))
    assert {(source, lang) for source, lang, _ in found} == {("en-part", "en"), ("zh-part", "zh")}


def test_damaged_documents_are_one_clear_error(tmp_path):
    corpus = make(tmp_path, {"name": "a", "path": jsonl(tmp_path / "a.jsonl", ENGLISH)})
    file = documents_path(corpus, "train")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(LuhuoError, match="damaged"):
        list(read_documents(corpus, "train"))
    with pytest.raises(LuhuoError):
        list(read_documents(tmp_path, "train"))
