"""Items of benchmarks are found in training text, exact and edited; text about the same things is left alone."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import random
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from luhuo.core.errors import LuhuoError
from luhuo.corpus.decontaminate import Benchmarks, Fields, Item, Rules
from luhuo.corpus.decontaminate.align import NOWHERE, SPARE, placed
from luhuo.corpus.decontaminate.items import item_of, read_items
from luhuo.corpus.decontaminate.ngrams import Lookup, gram_hashes, hash_of, run_hashes, units_of

DATA = Path(os.environ.get("LUHUO_TEST_DATA", ""))
real = pytest.mark.skipif(not (DATA / "gsm8k").is_dir(), reason="needs the real texts of LUHUO_TEST_DATA")
WORDS = [f"{a}{b}" for a in ("ka", "lo", "mi", "ne", "ru", "sta", "ven", "zor") for b in ("bar", "dol", "fin", "gus")]
HAN = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多"


def english(seed: int, count: int = 30) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def chinese(seed: int, count: int = 40) -> str:
    return "".join(random.Random(seed).choices(HAN, k=count))


def edited(text: str, share: float, rng: random.Random) -> str:
    """So many of the words, in Chinese text of the characters, deleted, replaced or doubled."""
    han = sum(c >= "\u3400" for c in text) > len(text) / 3
    units = list(text) if han else text.split(" ")
    for _ in range(max(1, round(len(units) * share))):
        place = rng.randrange(len(units))
        new = rng.choice(HAN) if han else rng.choice(WORDS)
        kind = rng.randrange(3)
        units[place : place + (kind != 2)] = [new] if kind else []
    return ("" if han else " ").join(units)


# Units and hashes


def test_units_are_words_and_single_han_characters_with_their_places() -> None:
    text = "Ｔhe 红楼梦 has １２０ chapters。x_y"
    units = units_of(text)
    assert units.texts() == ["the", "红", "楼", "梦", "has", "120", "chapters", "x", "y"]
    assert [text[a:b] for a, b in zip(units.starts, units.ends, strict=True)] == [
        "Ｔhe", "红", "楼", "梦", "has", "１２０", "chapters", "x", "y",
    ]  # fmt: skip
    assert units.han.tolist() == [False, True, True, True, False, False, False, False, False]


def test_units_agree_with_a_plain_loop_over_all_kinds_of_text() -> None:
    pattern = re.compile(
        "(?P<han>[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])|(?P<w>(?:(?![\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])[^\\W_])+)"
    )
    rng = random.Random(3)
    alphabet = "aZ 9_-，。ﬁ½㎏ßİﾊÅé𠀀𠮷𝐀😀…　①Ⅳ红楼ДжñЀ\n\t한글ไทย²"
    for _ in range(300):
        text = unicodedata.normalize("NFC", "".join(rng.choices(alphabet, k=rng.randint(0, 30))))
        each = ["".join(unicodedata.normalize("NFKC", c).casefold()) for c in text]
        expected = [m[0] for m in pattern.finditer("".join(each))]
        assert units_of(text).texts() == expected, text


def test_hashes_of_runs_agree_however_they_are_made() -> None:
    hashes = units_of(english(1, 600)).hashes
    assert gram_hashes(hashes, 13)[5] == hash_of(hashes[5:18])
    assert run_hashes(hashes, np.array([0, 1, 14, 320, 600])).tolist() == [
        hash_of(hashes[a:b]) for a, b in ((0, 1), (1, 14), (14, 320), (320, 600))
    ]
    assert len(gram_hashes(hashes[:3], 4)) == 0
    assert int(units_of("炉火").hashes[0]) == 7642825656017758651  # the same on every machine: an index is a file


def test_a_lookup_finds_what_it_knows_and_nothing_else() -> None:
    known = np.random.default_rng(0).integers(0, 2**63, 5000, dtype=np.uint64)
    queries = np.concatenate([np.random.default_rng(1).integers(0, 2**63, 20_000, dtype=np.uint64), known[:50]])
    places, numbers = Lookup(known).find(queries)
    assert places.tolist() == list(range(20_000, 20_050))
    assert np.sort(known)[numbers].tolist() == known[:50].tolist()


# What is found


def test_planted_items_are_found_by_benchmark_with_their_place_and_others_are_not() -> None:
    index = Benchmarks.of(
        {
            "en": [Item(f"e{n}", question=english(n)) for n in range(20)],
            "zh": [Item(f"z{n}", question=chinese(n)) for n in range(20)],
        }
    )
    noise = [f"{english(1000 + n, 300)}。{chinese(2000 + n, 300)}" for n in range(40)]
    leak = f"{english(500)} {english(3)} {english(501)}。{chinese(5)}，{chinese(502)}"
    found = index.hits([*noise, leak, ""])
    assert found[:-2] == [{}] * 40
    assert found[-2:] == [{"en": ["e3"], "zh": ["z5"]}, {}]
    hits = index.look([leak])[0]
    assert [leak[hit.start : hit.end] for hit in hits] == [english(3), chinese(5)]
    assert [(hit.way, hit.share, hit.part) for hit in hits] == [("exact", 1.0, "question")] * 2


@pytest.mark.parametrize("make", [english, chinese])
def test_every_exact_copy_and_95_in_a_hundred_lightly_edited_ones_are_found(make) -> None:
    rng = random.Random(1)
    items = [Item(str(n), question=make(n, rng.randint(20, 120))) for n in range(300)]
    index = Benchmarks.of({"b": items})
    for share, least in ((0.0, 1.0), (0.02, 0.95), (0.05, 0.95)):
        texts = [
            f"{make(5000, 200)}\n{edited(item.question, share, rng) if share else item.question}\n{make(6000, 200)}"
            for item in items
        ]
        found = [[item.id] == hits.get("b") for item, hits in zip(items, index.hits(texts), strict=True)]
        assert sum(found) >= least * len(items), share


@pytest.mark.parametrize("make", [english, chinese])
def test_an_edit_near_the_ends_of_a_short_item_costs_itself_alone(make) -> None:
    def with_more(question: str, place: int) -> str:
        """A unit put in, so that what stands before it is shifted against what stands behind it."""
        units = list(question) if make is chinese else question.split(" ")
        return ("" if make is chinese else " ").join([*units[:place], "龘", *units[place:]])

    items = [Item(str(n), question=make(n, 18)) for n in range(20)]
    index = Benchmarks.of({"b": items})
    for item, place in itertools.product(items, (2, 3, 15, 16)):
        text = f"{make(500, 30)}。{with_more(item.question, place)}。{make(501, 30)}"
        ((hit,),) = index.look([text])
        assert (hit.items, hit.way, hit.share) == ((item.id,), "near", 1.0), (text, place)


def test_an_edit_in_the_frame_of_many_items_hides_none_of_them() -> None:
    frame = english(99, 25)
    items = [Item(str(n), question=f"{frame} {english(n, 20)}") for n in range(30)]
    index = Benchmarks.of({"b": items})
    words = items[4].question.split()
    for text in (" ".join(words[:12] + words[13:]), " ".join([*words[:12], "more", *words[12:]])):
        assert index.hits([f"{english(700, 40)} {text} {english(701, 40)}"]) == [{"b": ["4"]}]


def test_units_are_placed_as_a_table_of_the_longest_common_subsequence_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = random.Random(2)
    for _ in range(200):
        item = np.array([*rng.choices(range(9), k=rng.randint(1, 14)), 90, 91, 92, 93])
        text = np.array([*rng.choices(range(9), k=rng.randint(0, 14)), 90, 91, 92, 93])
        at, inside = np.array([len(text) - 4]), np.array([len(item) - 4])
        covered = np.arange(len(item)) >= inside[0]
        monkeypatch.setattr("luhuo.corpus.decontaminate.align._reach", len)
        found = placed(item.astype(np.uint32), text.astype(np.uint64), covered, at, inside)
        there = found != NOWHERE
        assert (item[there] == text[found[there]]).all()
        assert (np.diff(found[there]) > 0).all()
        gap = int(inside[0])
        window = text[: at[0]].tolist()[-(gap + 1 + int(SPARE * gap)) :]
        best = np.zeros((gap + 1, len(window) + 1), int)
        for i, j in itertools.product(range(gap), range(len(window))):
            best[i + 1, j + 1] = max(best[i, j + 1], best[i + 1, j], best[i, j] + (item[i] == window[j]))
        assert there[:gap].sum() == best[-1, -1]


def test_case_marks_width_and_line_breaks_do_not_hide_an_item() -> None:
    item = "Who wrote the Dream of the Red Chamber, and when was it first printed in full?"
    han = "中国的首都是哪里？请写出它的名称、人口与建成年代。"
    index = Benchmarks.of({"b": [Item("en", question=item), Item("zh", question=han)]})
    assert index.hits([item.upper().replace(",", " --").replace(" ", "\n")]) == [{"b": ["en"]}]
    assert index.hits([han.replace("？", "?\n").replace("、", " ")]) == [{"b": ["zh"]}]


def test_mixed_items_are_looked_at_as_one() -> None:
    item = "已知 f(x)=x^2+3x，求 f(2) 的值，并解释 quadratic function 的顶点坐标"
    index = Benchmarks.of({"b": [Item("m", question=item)]})
    assert index.hits([f"{chinese(1)}{item}{english(2)}"]) == [{"b": ["m"]}]


def test_a_short_item_counts_only_as_a_whole_and_a_shorter_one_not_at_all() -> None:
    nine, five = english(1, 9), english(2, 5)
    index = Benchmarks.of({"b": [Item("nine", question=nine), Item("five", question=five)]})
    assert index.counts["b"]["too_short"] == 1
    assert index.hits([f"x {nine} y {five}", nine.rsplit(" ", 1)[0] + " other"]) == [{"b": ["nine"]}, {}]


def test_question_answer_and_context_are_leaks_apart() -> None:
    item = Item("i", question=english(1), answer=english(2), context=english(3, 60))
    index = Benchmarks.of({"b": [item, Item("j", question=english(4), context=english(3, 60))]})
    (question,), (answer,), (context,) = index.look([english(1), f"so {english(2)}", english(3, 60)])
    assert (question.part, answer.part, context.part) == ("question", "answer", "context")
    assert context.items == ("i", "j")


def test_a_short_question_is_found_with_its_options_plain_or_lettered() -> None:
    options = ("the river", "the old mill", "the market", "the harbour")
    index = Benchmarks.of({"b": [Item("q", question="Where did Ana go first?", options=options)]})
    plain = "Where did Ana go first?\n" + "\n".join(options)
    lettered = "Where did Ana go first? (A) the river (B) the old mill (C) the market (D) the harbour"
    assert index.hits([plain, lettered, "Where did Ana go first? To the shop."]) == [{"b": ["q"]}, {"b": ["q"]}, {}]


def test_what_many_items_share_is_no_evidence() -> None:
    frame = english(99, 25)
    items = [Item(str(n), question=f"{frame} {english(n, 15)}") for n in range(30)]
    index = Benchmarks.of({"b": items})
    assert index.hits([f"{english(700, 40)} {frame} {english(701, 40)}"]) == [{}]
    assert index.hits([f"{english(700, 40)} {items[4].question} {english(701, 40)}"]) == [{"b": ["4"]}]


def test_an_item_that_is_all_boilerplate_counts_as_a_whole() -> None:
    frame = "which of the following statements about the passage above is true"
    items = [Item(str(n), question=frame + (f" {WORDS[n]}" if n else "")) for n in range(20)]
    index = Benchmarks.of({"b": items}, Rules(common=3))
    assert "0" not in index.hits([f"{frame} now"])[0].get("b", []) or index.parts[0].whole
    assert index.hits(["which of the following statements about the weather"]) == [{}]


def test_half_an_item_is_a_leak_only_where_the_rules_say_so() -> None:
    item = english(1, 60)
    half = f"{english(70)} {' '.join(item.split()[:30])} {english(71)}"
    strict = Benchmarks.of({"b": [Item("i", question=item)]}, Rules(gram_share=0.0))
    assert Benchmarks.of({"b": [Item("i", question=item)]}).hits([half]) == [{}]
    (hit,) = strict.look([half])[0]
    assert hit.way == "gram"
    assert hit.share == pytest.approx(0.5, abs=0.05)


def test_a_text_never_borrows_from_its_neighbour() -> None:
    words = english(1, 40).split()
    index = Benchmarks.of({"b": [Item("i", question=" ".join(words))]})
    assert index.hits([" ".join(words[:20]), " ".join(words[20:])]) == [{}, {}]
    nine = english(2, 9).split()
    index = Benchmarks.of({"b": [Item("i", question=" ".join(nine))]})
    assert index.hits([" ".join(nine[:5]), " ".join(nine[5:])]) == [{}, {}]


def test_hits_do_not_depend_on_what_else_is_looked_at() -> None:
    items = [Item(str(n), question=english(n)) for n in range(50)]
    index = Benchmarks.of({"b": items})
    rng = random.Random(5)
    texts = [f"{english(900 + n, 50)} {edited(items[n].question, 0.04, rng)} {english(300 + n, 9)}" for n in range(50)]
    together = index.look(texts)
    assert together == [index.look([text])[0] for text in texts]
    assert together[::-1] == index.look(texts[::-1])


def test_a_long_text_is_looked_at_in_pieces_that_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [Item(str(n), question=english(n)) for n in range(30)]
    text = "\n".join(
        f"{english(1000 + n, 60)} {item.question} {english(2000 + n, 60)}" for n, item in enumerate(items)
    )
    index = Benchmarks.of({"b": items})
    whole = index.look([text])
    assert sorted(hit.items[0] for hit in whole[0]) == sorted(item.id for item in items)
    monkeypatch.setattr("luhuo.corpus.decontaminate.index.BATCH_CHARS", 3000)
    monkeypatch.setattr("luhuo.corpus.decontaminate.index.OVERLAP_CHARS", 500)
    assert index.look(["short", text, english(7)]) == [[], whole[0], index.look([english(7)])[0]]
    assert [text[hit.start : hit.end] for hit in whole[0]] == [item.question for item in items]


# Files


def test_an_index_is_saved_without_texts_and_refused_in_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = Item("secret-id", question=english(1))
    index = Benchmarks.of({"b": [item]})
    index.save(tmp_path / "index.npz")
    again = Benchmarks.open(tmp_path / "index.npz")
    assert again.look([f"a {item.question} b"]) == index.look([f"a {item.question} b"])
    assert again.counts == index.counts
    raw = (tmp_path / "index.npz").read_bytes()
    assert item.question.split()[0].encode() not in raw
    assert "".join(item.question[:30]).encode("utf-32-le") not in raw
    (tmp_path / "broken.npz").write_bytes(raw[:-300])
    monkeypatch.setattr("luhuo.corpus.decontaminate.index.VERSION", 9)
    for file in (tmp_path / "index.npz", tmp_path / "broken.npz", tmp_path / "none.npz"):
        with pytest.raises(LuhuoError):
            Benchmarks.open(file)


def test_items_are_read_from_the_layouts_of_published_benchmarks(tmp_path: Path) -> None:
    rows = {
        "gsm.jsonl": {"question": "q1", "answer": "a1"},
        "mc.jsonl": {
            "id": 7,
            "question": "q2",
            "choices": {"text": ["yes", "no"], "label": ["A", "B"]},
            "answerKey": "A",
        },
        "zh.jsonl": {"题目": "q3", "A": "甲一", "B": "乙一", "答案": "A"},
        "code.jsonl": {"task_id": "h/0", "prompt": "def f():", "canonical_solution": "return 1"},
        "odd.jsonl": {"foo": "q5", "bar": {"baz": ["q6"]}},
    }
    for name, row in rows.items():
        (tmp_path / name).write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    (tmp_path / "list.json").write_text(json.dumps({"name": "x", "data": [{"question": "q8"}, {"question": "q9"}]}))
    (tmp_path / "table.csv").write_text("question,answer\nq10,a10\n")
    (tmp_path / "SOURCE").write_text("not an item")
    found = {item.id: item for item in read_items(tmp_path)}
    assert found["mc.jsonl:1#7"] == Item("mc.jsonl:1#7", "q2", options=("yes", "no"))
    assert found["zh.jsonl:1"] == Item("zh.jsonl:1", "q3", "A", options=("甲一", "乙一"))
    assert found["code.jsonl:1#h/0"].answer == "return 1"
    assert found["odd.jsonl:1"].question == "q5\nq6"
    assert {item.question for item in found.values()} >= {"q1", "q8", "q9", "q10"}
    named = Fields(question=("bar.baz",), answer=("foo",))
    (item,) = read_items(tmp_path / "odd.jsonl", named)
    assert (item.question, item.answer) == ("q6", "q5")
    assert item_of({"other": 1}, "x", named) is None


def test_parts_for_training_are_passed_over_where_there_are_parts_for_testing(tmp_path: Path) -> None:
    for name in ("train.jsonl", "test.jsonl"):
        (tmp_path / name).write_text(json.dumps({"question": name}) + "\n")
    assert [item.question for item in read_items(tmp_path)] == ["test.jsonl"]
    assert [item.question for item in read_items(tmp_path / "train.jsonl")] == ["train.jsonl"]


def test_a_place_without_items_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(LuhuoError, match="item"):
        Benchmarks.load({"b": tmp_path})


# Real benchmarks in real text


def lines_of(name: str, key: str) -> list[str]:
    with gzip.open(DATA / name, "rt", encoding="utf-8") as handle:
        rows = [json.loads(line) for line in handle]
    return [row[key] if isinstance(row[key], str) else "\n".join(map(str, row[key])) for row in rows]


@real
@pytest.mark.parametrize(("name", "least"), [("gsm8k", 0.99), ("cmmlu", 0.97), ("arc", 0.97)])
def test_real_items_planted_in_real_text_are_found(name: str, least: float) -> None:
    rng = random.Random(0)
    items = list(read_items(DATA / name))
    index = Benchmarks.of({name: items})
    laws, stories = (
        lines_of("zh_laws/laws.jsonl.gz", "text")[:60],
        lines_of("wikitext2/test_articles.jsonl.gz", "rows"),
    )
    clean = [laws[n % 60][:3000] if n % 2 else stories[n % len(stories)][:3000] for n in range(200)]
    chosen = rng.sample(items, 200)
    bodies = [
        "\n".join((item.question, *(f"{c}. {o}" for c, o in zip("ABCD", item.options, strict=False))))
        for item in chosen
    ]
    for share, wanted in ((0.0, 1.0), (0.05, least)):
        texts = [
            f"{page}\n{edited(body, share, rng) if share else body}" for page, body in zip(clean, bodies, strict=True)
        ]
        found = [item.id in hits.get(name, []) for item, hits in zip(chosen, index.hits(texts), strict=True)]
        assert sum(found) >= wanted * len(found), share


@real
def test_real_clean_text_on_the_same_subjects_is_left_alone() -> None:
    index = Benchmarks.load({name: DATA / name for name in ("gsm8k", "cmmlu", "ceval_sample")})
    with gzip.open(DATA / "tinystories_sample/tinystories_sample.txt.gz", "rt", encoding="utf-8") as handle:
        texts = handle.read().split("<|endoftext|>") + lines_of("zh_docs/docs.jsonl.gz", "text")[::3]
    texts += (
        lines_of("wikitext2/test_articles.jsonl.gz", "rows")
        + lines_of("chinese_poetry/poems.jsonl.gz", "paragraphs")[::20]
    )
    assert len(texts) > 5000
    assert [hits for hits in index.hits(texts) if hits] == []
    train = lines_of("gsm8k/train.jsonl.gz", "question")  # written by the same people as the test
    assert sum(map(bool, index.hits(train))) <= len(train) * 0.001
