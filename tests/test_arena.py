"""The arena without its page: votes that last, pairs, the server's doors, leaderboards, and rating sheets."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from luhuo.arena import sheet_app
from luhuo.arena.app import create_app
from luhuo.arena.board import board
from luhuo.arena.matching import draw
from luhuo.arena.players import EndpointPlayer, LocalPlayer, open_players
from luhuo.arena.run import anchored, export, read_any, show
from luhuo.arena.sheet_report import report as sheet_page
from luhuo.arena.sheet_report import summary
from luhuo.arena.sheet_run import make
from luhuo.arena.sheets import Sheet, read_criteria
from luhuo.arena.store import Store, Turn
from luhuo.core.errors import LuhuoError
from luhuo.evaluation.votes import Cleaning, Vote, read_votes
from luhuo.model.save import save
from tests.arena_cases import SETTINGS, models
from tests.small_chat import small_model

HOST = {"base_url": "http://127.0.0.1"}


def players(url: str, *names: str) -> list[EndpointPlayer]:
    return [EndpointPlayer(f"{url}#{name}", SETTINGS) for name in names]


def heard(client: TestClient, battle: str, prompt: str) -> list[dict[str, Any]]:
    """The events of a turn."""
    answer = client.post(f"/api/battles/{battle}/turns", json={"prompt": prompt})
    assert answer.status_code == 200, answer.text
    return [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line]


@pytest.fixture
def votes(tmp_path: Path) -> Path:
    Store.create(tmp_path / "votes.db", {}).close()
    return tmp_path / "votes.db"


# Votes that last


def test_a_battle_is_voted_on_once_and_only_with_two_answers(votes: Path) -> None:
    with Store(votes) as store:
        name = store.begin("ann", "m1", "m2")
        with pytest.raises(LuhuoError, match="no two answers"):
            store.vote(name, "a", 1.0)
        store.add_turn(name, Turn("q", "x", "", "", "the model failed"))
        with pytest.raises(LuhuoError, match="no two answers"):
            store.vote(name, "a", 1.0)
        store.add_turn(name, Turn("q", "x", "y"))  # asked again: in the place of the one that failed
        assert [turn.answer_b for turn in store.battle(name).turns] == ["y"]
        assert store.vote(name, "b", 1.0).winner == "b"
        for again in (lambda: store.vote(name, "a", 1.0), lambda: store.add_turn(name, Turn("q", "x", "y"))):
            with pytest.raises(LuhuoError, match="is over"):
                again()
        with pytest.raises(LuhuoError, match="no such battle"):
            store.battle("x")
    with Store(votes) as store:
        (vote,) = store.votes()
        assert (vote.model_a, vote.winner, vote.answers) == ("m1", "b", (("x",), ("y",)))


def test_files_of_other_kinds_are_refused(tmp_path: Path, votes: Path) -> None:
    (tmp_path / "text").write_text("no database " * 100)
    for path, told in ((tmp_path / "text", "is no list of votes"), (tmp_path / "nowhere", "no list of votes here")):
        with pytest.raises(LuhuoError, match=told):
            Store(path)
    with pytest.raises(LuhuoError, match="is no rating sheet"):
        Sheet(votes)
    with pytest.raises(LuhuoError, match="of this name already"):
        Store.create(votes, {})


def test_pairs_with_few_votes_come_more_often_and_sides_are_by_chance() -> None:
    chance, counts = random.Random(0), {frozenset(("a", "b")): 30}
    drawn = Counter(draw(["a", "b", "c"], counts, chance) for _ in range(2000))
    by_pair = Counter({frozenset(pair): 0 for pair in drawn})
    for pair, number in drawn.items():
        by_pair[frozenset(pair)] += number
    assert by_pair[frozenset(("a", "b"))] < 100 < 800 < by_pair[frozenset(("a", "c"))]
    assert abs(drawn["a", "c"] - drawn["c", "a"]) < 150


# The server


def test_nobody_learns_a_name_before_the_vote_and_everybody_after_it(votes: Path) -> None:
    with models(lambda model, _: f"I speak as number {model[-1]}.") as (url, asked):
        client = TestClient(create_app(votes, players(url, "secret-1", "secret-2"), seed=1), **HOST)
        begun = client.post("/api/battles", json={"judge": "ann"})
        battle = begun.json()["battle"]
        events = heard(client, battle, "Who?")
        assert "secret" not in begun.text + json.dumps(events) + client.get("/api/arena").text
        texts = {side: "".join(e.get("text", "") for e in events if e.get("side") == side) for side in "ab"}
        assert sorted(texts.values()) == ["I speak as number 1.", "I speak as number 2."]
        assert events[-1] == {"done": True, "whole": True} and len(asked) == 2
        told = client.post(f"/api/battles/{battle}/vote", json={"winner": "a", "seconds": 3}).json()
        assert sorted(told["models"].values()) == ["secret-1", "secret-2"]
        assert texts["a"].endswith(f"{told['models']['a'][-1]}.")
        assert client.post(f"/api/battles/{battle}/vote", json={"winner": "b"}).status_code == 400
        assert client.get("/api/leaderboard").json()["votes"] == 1


def test_a_conversation_goes_on_with_each_sides_own_answers(votes: Path) -> None:
    with models(lambda model, messages: f"{model} {len(messages)}") as (url, asked):
        client = TestClient(create_app(votes, players(url, "m1", "m2"), seed=1), **HOST)
        battle = client.post("/api/battles", json={"judge": "ann"}).json()["battle"]
        heard(client, battle, "one")
        heard(client, battle, "two")
        for body in asked[2:]:
            said = [message["content"] for message in body["messages"]]
            assert said == ["one", f"{body['model']} 1", "two"]
        client.post(f"/api/battles/{battle}/vote", json={"winner": "tie"})
        assert client.post(f"/api/battles/{battle}/turns", json={"prompt": "three"}).status_code == 400


@pytest.mark.parametrize("trouble", [500, "half an ans✂wer", "   "])
def test_a_model_that_fails_is_said_so_namelessly_and_may_be_asked_again(votes: Path, trouble: str | int) -> None:
    ill = [True]
    with models(lambda model, _: trouble if ill[0] and model == "m1" else "fine") as (url, _):
        client = TestClient(create_app(votes, players(url, "m1", "m2"), seed=1), **HOST)
        battle = client.post("/api/battles", json={"judge": "ann"}).json()["battle"]
        events = heard(client, battle, "q")
        wrong = [event["error"] for event in events if event.get("error")]
        assert len(wrong) == 1 and "m1" not in wrong[0] and events[-1] == {"done": True, "whole": False}
        assert client.post(f"/api/battles/{battle}/vote", json={"winner": "a"}).status_code == 400
        ill[0] = False
        assert heard(client, battle, "q")[-1]["whole"]
        assert client.post(f"/api/battles/{battle}/vote", json={"winner": "a"}).status_code == 201


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/battles", {"judge": "  "}, 422),
        ("/api/battles", {"judge": "a" * 65}, 422),
        ("/api/battles/x/turns", {"prompt": ""}, 422),
        ("/api/battles/x/turns", {"prompt": "q"}, 400),
        ("/api/battles/x/vote", {"winner": "me"}, 422),
        ("/api/battles/x/vote", {"winner": "a"}, 400),
        ("/api/battles", {"judge": "x" * 70_000}, 413),
    ],
)
def test_what_cannot_be_meant_is_refused_with_words(votes: Path, path: str, body: dict[str, Any], status: int) -> None:
    with models(lambda *_: "x") as (url, _):
        answer = TestClient(create_app(votes, players(url, "m1", "m2")), **HOST).post(path, json=body)
    assert answer.status_code == status and answer.json()["error"]


def test_other_origins_and_other_names_are_refused_and_every_answer_has_the_strict_policy(votes: Path) -> None:
    with models(lambda *_: "x") as (url, _):
        client = TestClient(create_app(votes, players(url, "m1", "m2")), **HOST)
        for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
            assert client.post("/api/battles", json={"judge": "a"}, headers=headers).status_code == 403
        for path in ("/", "/page/main.js", "/chat/dom.js", "/api/leaderboard"):
            assert client.get(path).headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_a_local_model_streams_its_answer_and_stops_when_told(tmp_path: Path) -> None:
    save(small_model(), tmp_path / "small")
    player = LocalPlayer(str(tmp_path / "small"), SETTINGS | {"dtype": "fp32", "device": "cpu"})
    messages = [{"role": "user", "content": "hello"}]
    whole, stop = "".join(player.stream(messages, threading.Event())), threading.Event()
    assert player.name == "small" and whole
    stop.set()
    assert len("".join(player.stream(messages, stop))) < len(whole)
    with pytest.raises(LuhuoError, match="two models"):
        open_players(["one"], SETTINGS)
    with pytest.raises(LuhuoError, match="which model of the endpoint"):
        open_players(["http://127.0.0.1:1/v1", "x"], SETTINGS)


def simulated(store: Store, strengths: dict[str, float], number: int) -> None:
    """Votes by people who tell better from worse as Bradley and Terry say."""
    chance = random.Random(0)
    for _ in range(number):
        a, b = draw(sorted(strengths), store.counts(), chance)
        name = store.begin(f"voter {chance.randrange(5)}", a, b)
        store.add_turn(name, Turn("q?", f"answer {strengths[a]}", f"answer {strengths[b]}"))
        wins = 1 / (1 + math.exp(strengths[b] - strengths[a]))
        store.vote(name, "tie" if chance.random() < 0.15 else "a" if chance.random() < wins else "b", 1.0)


def test_simulated_votes_find_the_true_ranking_and_come_out_in_the_public_layout(votes: Path, tmp_path: Path) -> None:
    truth = {"best": 3.0, "good": 1.5, "weak": 0.0}
    with Store(votes) as store:
        simulated(store, truth, 150)
        found = board(list(store.votes()))
        least = min(store.counts().values())
    assert [row["model"] for row in found["groups"][0]["rows"]] == list(truth)
    assert [row["rank"] for row in found["groups"][0]["rows"]] == [1, 2, 3] and least > 40
    for row in found["groups"][0]["rows"]:
        assert row["low"] < row["rating"] < row["high"]
    export(votes, tmp_path / "out.jsonl")
    again, told = read_votes(tmp_path / "out.jsonl", Cleaning(repeated=False))
    assert told == {"kept": 150} and board(again) == found
    show(votes, tmp_path / "board.html", style=True, cleaning=Cleaning(), as_json=False)
    page = (tmp_path / "board.html").read_text(encoding="utf-8")
    assert all(name in page for name in truth) and "<script" not in page


def test_a_leaderboard_may_be_anchored_and_its_intervals_drawn_again(votes: Path, tmp_path: Path) -> None:
    with Store(votes) as store:
        simulated(store, {"m": 1.0, "n": 0.0}, 60)
    plain, anchor = tmp_path / "plain.json", anchored("m=1500")
    show(votes, plain, style=False, cleaning=Cleaning(), as_json=False, intervals="bootstrap", anchor=anchor)
    (one, other) = json.loads(plain.read_text(encoding="utf-8"))["groups"][0]["rows"]
    assert one["rating"] == pytest.approx(1500.0) and other["low"] < other["rating"] < other["high"] < 1600
    with pytest.raises(LuhuoError, match="anchor is none"):
        show(votes, None, style=False, cleaning=Cleaning(), as_json=True, anchor=("who", 1.0))
    with pytest.raises(LuhuoError, match="no anchor"):
        anchored("m")


def test_answers_that_name_a_model_do_not_count_nor_do_banned_voters() -> None:
    said = [("I am Claude.", "x"), ("I am m1!", "x"), ("x", "y")]
    mine = [Vote("m1", "m2", "a", f"j{i}", answers=((a,), (b,))) for i, (a, b) in enumerate(said)]
    found = board(
        [*mine, Vote("m1", "m2", "b", "bot")], names=["m1", "m2"], cleaning=Cleaning(banned_judges=frozenset({"bot"}))
    )
    assert found["votes"] == 1 and found["left_out"] == {"identity": 2, "banned": 1}
    assert found["groups"][0]["rows"][0]["high"] is None  # one win bounds nothing
    assert board([]) == {"votes": 0, "left_out": {}, "groups": [], "elo": {}}


def test_models_that_never_met_have_tables_of_their_own() -> None:
    mine = [Vote("a", "b", "a"), Vote("b", "a", "a"), Vote("c", "d", "tie"), Vote("a", "b", "tie")]
    groups = board(mine)["groups"]
    assert [sorted(row["model"] for row in group["rows"]) for group in groups] == [["a", "b"], ["c", "d"]]


def test_the_command_takes_models_serves_and_rates(tmp_path: Path) -> None:
    environment = os.environ | {"LUHUO_LANG": "en"}
    with models(lambda model, _: f"from {model[-1]}") as (url, _):
        command = [sys.executable, "-m", "luhuo", "arena", f"{url}#m1", f"{url}#m2", "--port", "0"]
        command += ["--votes", str(tmp_path / "v.db")]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as running:
            assert running.stderr is not None
            address = next(line for line in running.stderr if line.startswith("Arena at")).split()[-1]
            try:
                battle = httpx2.post(f"{address}api/battles", json={"judge": "ann"}).json()["battle"]
                httpx2.post(f"{address}api/battles/{battle}/turns", json={"prompt": "hello"}, timeout=30)
                assert httpx2.post(f"{address}api/battles/{battle}/vote", json={"winner": "a"}).status_code == 201
            finally:
                running.send_signal(signal.SIGINT)
            assert "every vote is kept" in running.stderr.read()
        assert running.returncode == 0
    board_command = [sys.executable, "-m", "luhuo", "arena", "leaderboard", str(tmp_path / "v.db"), "--json"]
    told = json.loads(
        subprocess.run(board_command, capture_output=True, text=True, env=environment, check=True).stdout
    )
    assert told["votes"] == 1
    assert read_any(tmp_path / "v.db", Cleaning())[0][0].judge == "ann"


# Rating sheets


@pytest.fixture
def sheet(tmp_path: Path) -> Iterator[Path]:
    rows = [
        {
            "prompt": f"Question {i}?",
            "answers": [{"text": f"good {i}", "model": "m1"}, {"text": f"poor {i}", "model": "m2"}],
        }
        for i in range(3)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    make(tmp_path / "sheet.db", tmp_path / "a.jsonl", None, "each", "Trial", 0)
    yield tmp_path / "sheet.db"


def filled(path: Path, expert: str, value: dict[str, int]) -> None:
    """All an expert has to do: references, then ratings by the first word of each answer."""
    with Sheet(path) as held:
        names = [one.id for one in held.criteria]
        while (task := held.next(expert)) is not None:
            shown = held.shown(task, expert)
            if task.answer is None:
                held.write_reference(task.item, expert, f"{expert} on {task.item}")
            else:
                held.rate(task.answer, expert, dict.fromkeys(names, value[shown["answer"]["text"].split()[0]]))


def test_references_come_first_and_no_answer_is_seen_before(sheet: Path) -> None:
    client = TestClient(sheet_app.create_app(sheet), **HOST)
    seen = []
    for _ in range(3):
        task = client.get("/api/next?expert=ann").json()
        seen.append(task)
        assert task["answer"] is None and "good" not in json.dumps(task) and task["total"] == 9
        body = {"item": task["item"], "expert": "ann", "text": f"mine {task['item']}"}
        following = client.post("/api/references", json=body).json()
    assert following["answer"]["text"] and following["references"] == [f"mine {following['item']}"]
    assert "m1" not in client.get("/api/next?expert=ann").text + client.get("/api/sheet").text
    other = client.get("/api/next?expert=bob").json()
    assert other["answer"] is None
    early = {
        "answer": following["answer"]["id"],
        "expert": "bob",
        "values": {"semantic_consistency": 3, "logic": 3, "style": 3},
    }
    assert client.post("/api/ratings", json=early).status_code == 400
    for values in ({"logic": 3}, {"semantic_consistency": 3, "logic": 9, "style": 3}):
        assert client.post("/api/ratings", json=early | {"expert": "ann", "values": values}).status_code == 400
    assert client.post("/api/ratings", json=early | {"expert": "ann"}).status_code == 201
    late = client.post("/api/references", json={"item": following["item"], "expert": "ann", "text": "changed"})
    assert late.status_code == 400 and "rated answers" in late.json()["error"]


def test_means_by_model_and_the_experts_agreement_come_out(sheet: Path, tmp_path: Path) -> None:
    filled(sheet, "ann", {"good": 5, "poor": 2})
    filled(sheet, "bob", {"good": 4, "poor": 1})
    with Sheet(sheet) as held:
        found = summary(held)
        rows = list(held.rows())
    assert found["models"]["m1"]["logic"]["mean"] == 4.5 and found["models"]["m2"]["style"]["mean"] == 1.5
    assert found["experts"] == {"ann": {"done": 9, "total": 9}, "bob": {"done": 9, "total": 9}}
    agreement = found["agreement"]["logic"]
    assert 0 < agreement["alpha"]["value"] < 1 and agreement["pairs"][0]["n"] == 6
    assert agreement["pairs"][0]["kappa"] <= 0  # never the same number, always the same order
    assert rows[0]["references"] == {"ann": "ann on 1", "bob": "bob on 1"}
    assert rows[0]["ratings"]["ann"] == {"semantic_consistency": 5, "logic": 5, "style": 5}
    assert "Krippendorff" in sheet_page(found)


def test_given_references_and_own_scales_are_used(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("criteria: [{id: tone, zh: 语气如何？, low: 0, high: 3}]", encoding="utf-8")
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "q", "answers": ["x", "y"]}))
    make(tmp_path / "s.db", tmp_path / "a.jsonl", tmp_path / "c.yaml", "any", "", 0)
    with Sheet(tmp_path / "s.db") as held:
        assert [(one.id, one.high) for one in held.criteria] == [("tone", 3)]
        held.write_reference(1, "ann", "an expert's")
        task = held.next("bob")
        assert task is not None and task.answer is not None and task.total == 2  # one reference is enough
        assert held.shown(task, "bob")["references"] == ["an expert's"]


@pytest.mark.parametrize(
    "text", ["- x", "criteria: []", "criteria: [{id: a, low: 1, high: 1}]", "criteria: [{id: a}, {id: a}]"]
)
def test_scales_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(LuhuoError):
        read_criteria(tmp_path / "c.yaml")
