"""The arena's page and the rating sheet in a real browser: blind until the vote, keys, both languages, phone width."""

from __future__ import annotations

import json
import math
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from luhuo.arena import sheet_app
from luhuo.arena.app import PAGE, create_app
from luhuo.arena.players import EndpointPlayer
from luhuo.arena.sheet_run import make
from luhuo.arena.sheets import Sheet
from luhuo.arena.store import Store
from luhuo.rank.local_app import local_app
from tests.app_server import served
from tests.arena_cases import SETTINGS, models
from tests.page_browser import needs_browser, watched

IMAGES = Path(os.environ.get("LUHUO_SCREENSHOTS", Path(__file__).parents[1] / "docs/images"))
TRUTH = {"bright": 3.0, "fair": 1.5, "dim": 0.0}
ATTACK = "<script>document.title='owned'</script> <img src=x onerror=alert(1)>"
LONG = {
    "bright": "**Descale** it:\n\n1. Fill it half with vinegar.\n2. Boil, wait an hour.\n3. Rinse twice.",
    "fair": "Use vinegar, boil it, and rinse.",
    "dim": "Many people own a kettle. Some kettles are made of steel.",
}


@contextmanager
def arena(path: Path, says: Any, names: tuple[str, ...] = tuple(TRUTH), seed: int = 0) -> Iterator[str]:
    if not path.exists():
        Store.create(path, {}).close()
    with models(says) as (url, _):
        players = [EndpointPlayer(f"{url}#{name}", SETTINGS) for name in names]
        with served(create_app(path, players, seed=seed, title="Kettles")) as address:
            yield address


def begin(page: Page, name: str = "ann") -> None:
    page.locator("dialog input").fill(name)
    page.keyboard.press("Enter")
    expect(page.locator("#who")).to_contain_text(name)


def question(page: Page, text: str = "How do I clean a kettle?") -> None:
    page.fill("#draft", text)
    page.press("#draft", "Enter")
    expect(page.locator("#votes button[data-vote=tie]")).to_be_enabled()


def quality(text: str) -> float:
    """What a simulated person sees of an answer."""
    return TRUTH[next(name for name, said in LONG.items() if text.split()[0] in said.replace("*", ""))]


def judged(chance: random.Random, a: float, b: float) -> str:
    """A vote as Bradley and Terry say, with some ties."""
    return "tie" if chance.random() < 0.1 else "a" if chance.random() < 1 / (1 + math.exp(b - a)) else "b"


@needs_browser
def test_a_simulated_vote_run_finds_the_true_ranking(browser: Browser, tmp_path: Path) -> None:
    """Ten battles in the browser, with keys alone, and 140 through the page's own calls, by five voters."""
    chance, path = random.Random(5), tmp_path / "votes.db"
    keys = {"a": "1", "b": "2", "tie": "0"}
    with arena(path, lambda model, _: LONG[model]) as address:
        with watched(browser, address) as page:
            begin(page)
            for number in range(10):
                question(page)
                seen = page.locator(".answer .markdown").all_inner_texts()
                assert not any(name in page.content() for name in TRUTH)
                page.locator("#how").click()
                page.keyboard.press(keys[judged(chance, *map(quality, seen))])
                shown = page.locator(".answer .model")
                expect(shown).to_have_count(2)
                assert [LONG[name].replace("*", "").split()[0] for name in shown.all_inner_texts()] == [
                    text.split()[0] for text in seen
                ]
                if number < 9:
                    page.keyboard.press("n")
        with httpx2.Client(base_url=address, timeout=60) as client:
            for number in range(140):
                battle = client.post("/api/battles", json={"judge": f"voter {number % 5}"}).json()["battle"]
                told = client.post(f"/api/battles/{battle}/turns", json={"prompt": "How?"}).text
                events = [json.loads(line[6:]) for line in told.splitlines() if line]
                texts = {s: "".join(e.get("text", "") for e in events if e.get("side") == s) for s in "ab"}
                vote = judged(chance, *(quality(texts[side].replace("*", "")) for side in "ab"))
                client.post(f"/api/battles/{battle}/vote", json={"winner": vote})
        with watched(browser, address) as page:
            begin(page, "bob")
            page.get_by_role("button", name="Leaderboard").click()
            table = page.locator("dialog table").first
            expect(page.locator("#standing")).to_contain_text("150 votes count")
            expect(table.locator("tbody th")).to_have_text(list(TRUTH))
            assert table.locator("tbody tr td:nth-child(2)").all_inner_texts() == ["1", "2", "3"]
            page.locator("dialog").screenshot(path=shot("arena-leaderboard.png"))
            page.get_by_label("At equal length and layout").check()
            expect(page.locator("#standing")).to_contain_text("150 votes count")


def shot(name: str) -> Path:
    IMAGES.mkdir(parents=True, exist_ok=True)
    return IMAGES / name


@needs_browser
def test_both_answers_grow_at_once_several_turns_and_a_click(browser: Browser, tmp_path: Path) -> None:
    def says(model: str, messages: list[dict[str, Any]]) -> str:
        return f"n{len(messages)} " + ("slow … … … …" if model == "dim" else "quick")

    with arena(tmp_path / "v.db", says, ("bright", "dim")) as address, watched(browser, address) as page:
        begin(page)
        page.fill("#draft", "first\nline two")
        page.press("#draft", "Enter")
        expect(page.locator(".answer", has_text="quick")).to_be_visible()
        expect(page.locator("#how")).to_have_text("Both models are writing …")
        expect(page.locator("#votes button")).to_have_count(4)
        assert page.locator("#votes button:disabled").count() == 4
        expect(page.locator("#votes button[data-vote=a]")).to_be_enabled()
        expect(page.locator("#announce")).to_have_text("Both answers are there.")
        question(page, "second")
        expect(page.locator(".answer", has_text="n3 ")).to_have_count(2)
        page.get_by_role("button", name="Both bad").click()
        expect(page.locator("#votes")).to_contain_text("Your vote: Both bad.")
        expect(page.locator("#next")).to_be_focused()
        assert page.locator("#composer").is_hidden()
    with Store(tmp_path / "v.db") as store:
        (vote,) = store.votes()
        assert vote.winner == "bad" and len(vote.answers[0]) == 2 and vote.judge == "ann"


@needs_browser
def test_a_model_that_fails_is_said_and_asked_again(browser: Browser, tmp_path: Path) -> None:
    ill = [True]
    says = lambda model, _: 500 if ill[0] and model == "dim" else "fine"  # noqa: E731
    with arena(tmp_path / "v.db", says, ("bright", "dim")) as address, watched(browser, address) as page:
        begin(page)
        page.fill("#draft", "hello")
        page.press("#draft", "Enter")
        expect(page.locator(".answer .error")).to_contain_text("did not answer")
        expect(page.locator("#how")).to_contain_text("no two answers")
        ill[0] = False
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#votes button[data-vote=a]")).to_be_enabled()
        assert page.locator(".answer").count() == 2 and page.locator(".answer .error").count() == 0


def test_a_turn_that_is_given_up_is_forgotten_and_may_be_asked_again(tmp_path: Path) -> None:
    with (
        arena(tmp_path / "v.db", lambda *_: "begin … … … end", ("bright", "dim")) as address,
        httpx2.Client(base_url=address, timeout=30) as client,
    ):
        battle = client.post("/api/battles", json={"judge": "ann"}).json()["battle"]
        path = f"/api/battles/{battle}/turns"
        with client.stream("POST", path, json={"prompt": "first"}) as answer:
            assert next(answer.iter_lines()).startswith("data:")
        told = client.post(path, json={"prompt": "again"})
        for _ in range(200):
            if told.status_code == 200:
                break
            threading.Event().wait(0.05)  # until the server has noticed
            told = client.post(path, json={"prompt": "again"})
        assert told.status_code == 200 and '"done": true' in told.text
    with Store(tmp_path / "v.db") as store:
        assert [turn.prompt for turn in store.battle(battle).turns] == ["again"]


@needs_browser
def test_what_models_write_is_text_and_never_a_script(browser: Browser, tmp_path: Path) -> None:
    with arena(tmp_path / "v.db", lambda *_: ATTACK, ("bright", "dim")) as address, watched(browser, address) as page:
        begin(page, "<b>bold</b>")
        question(page, ATTACK)
        expect(page.locator(".answer").first).to_contain_text("<script>document.title='owned'</script>")
        assert page.locator("main img, main script").count() == 0 and page.title() == "Luhuo arena"


@needs_browser
def test_the_arena_as_it_looks_in_both_languages_dark_and_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    with arena(tmp_path / "v.db", lambda model, _: LONG[model]) as address:
        with watched(browser, address) as page:
            begin(page)
            question(page)
            assert page.evaluate(fits)
            page.screenshot(path=shot("arena.png"))
            names = page.locator(".answer").evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
            assert names == ["Answer A", "Answer B"]
            page.get_by_role("button", name="Dark").click()
            assert page.evaluate("document.documentElement.dataset.theme") == "dark"
            page.get_by_role("button", name="中文").click()
            expect(page.locator("#how")).to_have_text("哪个回答更好？也可以先继续追问。")
            expect(page.get_by_role("button", name="A 更好")).to_be_visible()
            page.screenshot(path=shot("arena-dark-chinese.png"))
        with watched(browser, address, viewport={"width": 390, "height": 780}) as page:
            begin(page)
            question(page)
            assert page.evaluate(fits)
            boxes = page.locator(".answer").evaluate_all("all => all.map(one => one.getBoundingClientRect().top)")
            assert boxes[1] > boxes[0] + 50  # one below the other


@needs_browser
def test_an_expert_writes_a_reference_first_and_then_rates_blind(browser: Browser, tmp_path: Path) -> None:
    rows = [
        {
            "prompt": "水为什么会结冰？",
            "answers": [
                {"text": "因为温度降到零度以下。", "model": "secret-one"},
                {"text": "不知道。", "model": "secret-two"},
            ],
        }
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    make(tmp_path / "s.db", tmp_path / "a.jsonl", None, "each", "Ice", 0)
    with served(sheet_app.create_app(tmp_path / "s.db")) as address, watched(browser, address) as page:
        begin(page, "李雷")
        expect(page.locator("#how")).to_contain_text("First write what you would answer")
        assert "因为" not in page.content() and "不知道" not in page.content()
        page.get_by_label("Your answer").fill("低于冰点时水分子排成晶体。")
        page.get_by_role("button", name="Save").click()
        expect(page.locator("#count")).to_have_text("1 of 3")
        expect(page.locator(".reference")).to_contain_text("低于冰点")
        page.get_by_role("button", name="Save").click()
        expect(page.locator("#notices")).to_contain_text("every scale")
        page.get_by_role("group", name="same as the expert").get_by_label("4").check()
        page.get_by_role("button", name="中文").click()  # what is chosen stays
        page.screenshot(path=shot("arena-sheet.png"))
        page.get_by_role("group", name="逻辑").get_by_label("5").check()
        page.get_by_role("group", name="文风").get_by_label("3").check()
        page.get_by_role("button", name="保存").click()
        expect(page.locator("#count")).to_have_text("2 / 3")
        page.reload()
        expect(page.locator("#count")).to_have_text("2 / 3")
        assert "secret" not in page.content()
    with Sheet(tmp_path / "s.db") as sheet:
        assert {one["criterion"]: one["value"] for one in sheet.ratings()} == {
            "semantic_consistency": 4,
            "logic": 5,
            "style": 3,
        }


@pytest.mark.parametrize(("body", "script"), [("body.html", "main.js"), ("sheet_body.html", "sheet.js")])
def test_the_pages_load_nothing_from_elsewhere_and_hold_no_script_of_their_own(body: str, script: str) -> None:
    with served(local_app(PAGE, (), "arena.css", body, script)) as address:
        text = httpx2.get(address).text
    assert "http" not in text and "<script>" not in text and 'lang="en"' in text and "viewport" in text
    assert f'src="/page/{script}"' in text and 'href="/page/arena.css"' in text and "&lt;" not in text
