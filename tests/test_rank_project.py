"""A ranking project: what is kept, who is shown what, how agreement is counted, and what is exported."""

from __future__ import annotations

import json
import shlex
import sqlite3
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from luhuo.align.reward_data import read_reward_data
from luhuo.cli import app
from luhuo.core.errors import LuhuoError
from luhuo.model.save import save
from luhuo.rank.agreement import between, kappa, opinions, overall
from luhuo.rank.exporting import export
from luhuo.rank.importing import read_answers
from luhuo.rank.order import next_item, shown
from luhuo.rank.progress import progress, wins
from luhuo.rank.store import Judgement, NewItem, Store
from tests.small_chat import small_model, small_tokenizer


def items(count: int = 4, answers: int = 2) -> list[NewItem]:
    """Prompts with answers by the models "alpha", "beta", …"""
    names = ["alpha", "beta", "gamma", "delta"]
    return [
        (
            [{"role": "user", "content": f"question {i}"}],
            [(f"answer {i}.{k}", names[k]) for k in range(answers)],
            {"lang": "en"},
        )
        for i in range(count)
    ]


def project(path: Path, given: list[NewItem] | None = None, **settings: Any) -> Store:
    store = Store.create(path / "project.db", {"seed": 0, "each": 0, "title": "", **settings})
    store.add(given or items())
    return store


def order(store: Store, item: int, places: list[int]) -> dict[int, int]:
    """Ranks for the answers of an item in the order they were added."""
    return {answer.id: place for answer, place in zip(store.item(item).answers, places, strict=True)}


def say(store: Store, item: int, who: str, places: list[int] | None = None, verdict: Any = "ranked") -> None:
    store.judge(Judgement(item, who, verdict, {} if places is None else order(store, item, places)))


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def run(*arguments: str) -> str:
    told = CliRunner().invoke(app, ["rank", *arguments], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    return told.output


# What is kept


def test_a_judgement_is_kept_whole_and_a_later_one_takes_its_place(tmp_path: Path) -> None:
    with project(tmp_path, items(2, 3)) as store:
        say(store, 1, "ann", [2, 7, 2])
        say(store, 1, "bob", [1, 2, 3])
        say(store, 1, "ann", None, "skipped")
    with Store(tmp_path / "project.db") as store:
        ann, bob = store.judgements()
        assert (ann.verdict, ann.ranks, bob.annotator) == ("skipped", {}, "bob")
        say(store, 2, "ann", [2, 7, 2])
        assert sorted(store.judgements("ann")[1].ranks.values()) == [1, 1, 2], "gaps between ranks mean nothing"


@pytest.mark.parametrize("ranks", [{}, {1: 1}, {1: 1, 2: 2, 99: 3}, {1: 0, 2: 1}])
def test_a_judgement_that_does_not_fit_its_item_is_refused(tmp_path: Path, ranks: dict[int, int]) -> None:
    with project(tmp_path) as store:
        with pytest.raises(LuhuoError, match="does not fit"):
            store.judge(Judgement(1, "ann", "ranked", ranks))
        with pytest.raises(LuhuoError):
            store.judge(Judgement(1, " ", "bad", {}))
        with pytest.raises(LuhuoError, match="no such item"):
            store.judge(Judgement(77, "ann", "bad", {}))
        assert store.judgements() == []


def test_the_file_is_in_write_ahead_mode_and_many_may_write_at_once(tmp_path: Path) -> None:
    project(tmp_path, items(30)).close()

    def work(name: str) -> None:
        with Store(tmp_path / "project.db") as store:
            for number in store.numbers():
                say(store, number, name, [1, 2])

    threads = [threading.Thread(target=work, args=(name,)) for name in ("ann", "bob", "eve")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Store(tmp_path / "project.db") as store:
        assert len(store.judgements()) == 90
    mode = sqlite3.connect(tmp_path / "project.db").execute("PRAGMA journal_mode").fetchone()
    assert mode == ("wal",)


def test_foreign_files_are_refused_and_projects_are_never_overwritten(tmp_path: Path) -> None:
    project(tmp_path).close()
    with pytest.raises(LuhuoError, match="name already"):
        Store.create(tmp_path / "project.db", {})
    (tmp_path / "text.db").write_text("this is no database " * 100)
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE x (y)")
    for name in ("text.db", "other.db"):
        with pytest.raises(LuhuoError, match="no ranking project"):
            Store(tmp_path / name)
    with pytest.raises(LuhuoError, match="no ranking project here"):
        Store(tmp_path / "absent.db")


# Who is shown what


def test_everybody_gets_the_items_in_one_order_and_each_their_own_order_of_answers(tmp_path: Path) -> None:
    with project(tmp_path, items(12, 4)) as store:
        seen = {who: list[int]() for who in ("ann", "bob")}
        for who, order_of in seen.items():
            while (number := next_item(store, who)) is not None:
                order_of.append(number)
                say(store, number, who, None, "bad")
        assert seen["ann"] == seen["bob"] != sorted(seen["ann"])
        first = [[answer.model for answer in shown(store.item(i), "ann", 0)] for i in store.numbers()]
        assert len({tuple(names) for names in first}) > 6, "no model has a fixed place"
        assert first == [[answer.model for answer in shown(store.item(i), "ann", 0)] for i in store.numbers()]
        assert first != [[answer.model for answer in shown(store.item(i), "bob", 0)] for i in store.numbers()]
        places = Counter(names.index("alpha") for names in first)
        assert len(places) >= 3


def test_an_item_judged_often_enough_is_shown_to_nobody_else(tmp_path: Path) -> None:
    with project(tmp_path, items(3), each=2) as store:
        for who in ("ann", "bob"):
            say(store, 1, who, [1, 2])
            say(store, 2, who, [1, 2])
        assert next_item(store, "eve") == 3
        say(store, 3, "eve", [1, 2])
        assert next_item(store, "eve") is None and next_item(store, "ann") == 3


# Agreement


def test_kappa_is_what_the_formula_says() -> None:
    """20 and 15 of 50 agreed on, marginals 25 : 25 and 30 : 20 (the usual textbook table): (0.7 - 0.5) / 0.5."""
    pairs = [("first", "first")] * 20 + [("first", "second")] * 5 + [("second", "first")] * 10
    assert kappa([*pairs, *[("second", "second")] * 15]) == pytest.approx(0.4)
    assert kappa([]) is None and kappa([("tie", "tie")] * 3) is None


def test_equal_opinions_agree_fully_and_opposite_ones_not_at_all(tmp_path: Path) -> None:
    with project(tmp_path, items(6, 3)) as store:
        for number in store.numbers():
            places = [1, 2, 3] if number % 2 else [3, 1, 2]
            say(store, number, "ann", places)
            say(store, number, "bob", places)
            say(store, number, "eve", [4 - place for place in places])
        found = opinions(store.judgements())
        same, turned = between(found["ann"], found["bob"]), between(found["ann"], found["eve"])
        assert (same.kappa, same.share, same.n) == (1.0, 1.0, 18)
        assert turned.kappa is not None and turned.kappa < 0 and turned.share == 0
        everyone = overall(found)
        assert everyone.n == 54 and everyone.share == pytest.approx(1 / 3)
        assert everyone.low is not None and everyone.low <= (everyone.kappa or 0) <= (everyone.high or 0)


def test_skipped_items_say_nothing_and_bad_ones_say_that_answers_tie(tmp_path: Path) -> None:
    with project(tmp_path) as store:
        say(store, 1, "ann", [1, 2])
        say(store, 1, "bob", None, "bad")
        say(store, 2, "ann", [2, 1])
        say(store, 2, "bob", None, "skipped")
        found = opinions(store.judgements())
        assert sorted(found["ann"].values()) == ["first", "second"] and list(found["bob"].values()) == ["tie"]
        told = progress(store)
        assert told["judged"] == 2 and [one["bad"] for one in told["people"]] == [0, 1]
        assert "alpha" not in json.dumps(told), "those who judge do not learn who wrote what"
        (row,) = wins(store)
        assert row["models"] == ["alpha", "beta"] and row["wins"] == [1, 1] and row["ties"] == 1


# What goes in and out


def test_answers_come_from_texts_objects_messages_and_preference_pairs(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "你好", "answers": ["一", {"text": "二", "model": "m"}, "一"], "id": "x", "secret": 1},
        {
            "prompt": [{"role": "user", "content": "q"}],
            "chosen": [{"role": "assistant", "content": "c"}],
            "rejected": "r",
        },
        {"prompt": "q", "answers": ["same", "same"]},
    ]
    file, counts = jsonl(tmp_path / "a.jsonl", rows), Counter[str]()
    file.write_text(file.read_text() + "no json\n")
    first, second = read_answers(file, counts)
    assert first == ([{"role": "user", "content": "你好"}], [("一", ""), ("二", "m")], {"id": "x"})
    assert second[1] == [("c", ""), ("r", "")]
    assert counts == {"read": 4, "used": 2, "too_few": 1, "broken": 1, "answers.equal": 2}
    with pytest.raises(LuhuoError, match="lacks"):
        list(read_answers(jsonl(tmp_path / "b.jsonl", [{"prompt": "q"}]), counts))


def test_most_of_those_who_see_a_difference_decide_a_pair(tmp_path: Path) -> None:
    with project(tmp_path) as store:
        for who, places in (("a", [1, 2]), ("b", [1, 2]), ("c", [2, 1]), ("d", [1, 1])):
            say(store, 1, who, places)
        say(store, 2, "a", [1, 2])
        say(store, 2, "b", [2, 1])
        rows = list(export(store, "pairs"))
        assert [(row["chosen"], row["rejected"], row["votes"]) for row in rows] == [
            ("answer 0.0", "answer 0.1", {"chosen": 2, "rejected": 1, "tie": 1})
        ]
        assert rows[0]["lang"] == "en" and rows[0]["chosen_model"] == "alpha"
        assert list(export(store, "pairs", least=0.7)) == []


def test_answers_all_called_bad_become_bad_labels_and_the_best_good_ones(tmp_path: Path) -> None:
    with project(tmp_path, items(3)) as store:
        say(store, 1, "a", None, "bad")
        say(store, 1, "b", None, "bad")
        say(store, 2, "a", [1, 2])
        say(store, 3, "a", None, "skipped")
        rows = [(row["completion"], row["label"]) for row in export(store, "unpaired")]
        assert rows == [("answer 0.0", False), ("answer 0.1", False), ("answer 1.0", True)]


def test_what_is_exported_is_what_the_reward_stage_reads(tmp_path: Path) -> None:
    with project(tmp_path, items(4, 3)) as store:
        for number in store.numbers():
            say(store, number, "ann", [1, 2, 2])
    kinds = {"pairs": "pairwise", "ranking": "pairwise", "unpaired": "binary"}
    for layout, kind in kinds.items():
        out = tmp_path / f"{layout}.jsonl"
        run("export", str(tmp_path / "project.db"), "--out", str(out), "--layout", layout)
        data = read_reward_data([out], small_tokenizer(), 250, lambda row: None)
        assert data.kind == kind and data.counts["broken"] == 0
        assert sum(len(item.pairs) for item in data.items) == {"pairs": 8, "ranking": 8, "unpaired": 0}[layout]
    run("export", str(tmp_path / "project.db"), "--out", str(tmp_path / "all.jsonl"), "--layout", "judgements")
    row = json.loads((tmp_path / "all.jsonl").read_text().splitlines()[0])
    assert row["annotator"] == "ann" and [one["rank"] for one in row["answers"]] == [1, 2, 2]


def test_models_answer_prompts_and_only_different_answers_are_ranked(tmp_path: Path) -> None:
    for name, seed in (("A", 1), ("B", 2)):
        model = small_model()
        with __import__("torch").no_grad():
            model.embedding.mul_(seed)
        save(model, tmp_path / name)
    prompts = jsonl(
        tmp_path / "prompts.jsonl", [{"prompt": "hello"}, {"messages": [{"role": "user", "content": "你好"}]}]
    )
    path = tmp_path / "made.db"
    options = ["--max-tokens", "4", "--title", "Which?", "--seed", "3"]
    models = ["--models", str(tmp_path / "A"), str(tmp_path / "B")]
    run("new", str(path), "--prompts", str(prompts), "-n", "2", *options, *models)
    with Store(path) as store:
        made = list(store.items())
        assert store.setting("title") == "Which?" and len(made) == 2
        for item in made:
            texts = [answer.text for answer in item.answers]
            assert 2 <= len(texts) == len(set(texts)) and {answer.model for answer in item.answers} <= {"A", "B"}
    again = tmp_path / "again.db"
    run("new", str(again), "--prompts", str(prompts), "-n", "2", *options, *models)
    with Store(again) as store:
        assert list(store.items()) == made, "the same seed writes the same answers"


def test_what_cannot_be_made_leaves_no_file_and_says_why(tmp_path: Path) -> None:
    path, empty = tmp_path / "p.db", jsonl(tmp_path / "e.jsonl", [{"prompt": "q", "answers": ["one"]}])
    for arguments, words in (
        ([], "answers, or prompts"),
        (["--prompts", str(empty)], "answers, or prompts"),
        (["--answers", str(tmp_path / "absent.jsonl")], "no such file"),
        (["--answers", str(empty)], "nothing to rank"),
    ):
        with pytest.raises(LuhuoError, match=words):
            CliRunner().invoke(app, ["rank", "new", str(path), *arguments], catch_exceptions=False)
        assert not path.exists()
    project(tmp_path).close()
    for arguments in (["--layout", "pears"], []):
        with pytest.raises(LuhuoError):
            out = ["--out", str(tmp_path / "o.jsonl")]
            CliRunner().invoke(
                app, ["rank", "export", str(tmp_path / "project.db"), *out, *arguments], catch_exceptions=False
            )
    assert not (tmp_path / "o.jsonl").exists()


def test_the_status_is_told_for_people_and_for_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with project(tmp_path) as store:
        say(store, 1, "ann", [1, 2])
        say(store, 1, "李雷", [1, 2])
    told = json.loads(run("status", str(tmp_path / "project.db"), "--json"))
    assert told["items"] == 4 and told["agreement"]["n"] == 1 and told["models"][0]["wins"] == [2, 0]
    monkeypatch.setenv("LUHUO_LANG", "zh")
    shown_ = run("status", str(tmp_path / "project.db"))
    assert "4 道题中已有人评判 1 道" in shown_ and "李雷" in shown_


@pytest.mark.parametrize("page", ["ranking.md", "ranking.zh.md"])
def test_the_commands_of_the_document_work(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[1] / "docs" / page).read_text(encoding="utf-8")
    lines = text.split("```bash\n")[1].split("```")[0].splitlines()
    monkeypatch.chdir(tmp_path)
    for name in ("assistant", "base"):
        save(small_model(), tmp_path / "runs/quickstart" / name)
    jsonl(tmp_path / "prompts.jsonl", [{"prompt": "hello"}, {"prompt": "你好"}])
    for line in lines:
        program, verb, *arguments = shlex.split(line)
        assert (program, verb) == ("luhuo", "rank")
        if arguments[0] == "serve":
            continue  # tests/test_rank_page.py
        if arguments[0] == "status":
            with Store("kettles.db") as store:
                for number in store.numbers():
                    ranks = {answer.id: place for place, answer in enumerate(store.item(number).answers, 1)}
                    store.judge(Judgement(number, "ann", "ranked", ranks))
        run(*arguments, *(["--max-tokens", "3"] if arguments[0] == "new" else []))
    assert (tmp_path / "preference.jsonl").read_text().count("\n") >= 2
