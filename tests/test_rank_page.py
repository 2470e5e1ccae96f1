"""The ranking page: its server's doors, and the page in a real browser: keys, dragging, coming back, two languages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from luhuo.rank.app import create_app
from luhuo.rank.store import Judgement, NewItem, Store
from tests.app_server import served
from tests.page_browser import needs_browser, watched

IMAGES = Path(os.environ.get("LUHUO_SCREENSHOTS", Path(__file__).parents[1] / "docs/images"))
ATTACK = "<script>document.title='owned'</script> <img src=x onerror=alert(1)> [x](javascript:alert(1))"
KETTLE = """**Descale** it with vinegar:

1. Fill it half with water and half with vinegar.
2. Boil, and wait an hour.
3. Rinse twice."""
SHORT = "Use vinegar."
WRONG = "Scrub it with `steel wool` until the coating comes off."
LONG = """A kettle is a vessel for heating water. Many people own one. Some kettles are made of steel.

You could buy a new one."""


def items(answers: int, count: int = 3) -> list[NewItem]:
    texts = [KETTLE, SHORT, WRONG, LONG][:answers]
    models = ["secret-alpha", "secret-beta", "secret-gamma", "secret-delta"]
    return [
        ([{"role": "user", "content": f"How do I clean a kettle? ({i})"}], list(zip(texts, models, strict=False)), {})
        for i in range(count)
    ]


class Breaking:
    """An application that answers no posts while `broken`: uvicorn then says 500 in plain text."""

    def __init__(self, app: Any) -> None:
        self.app, self.broken = app, False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.broken and scope["method"] == "POST":
            raise ConnectionError("broken on purpose")
        await self.app(scope, receive, send)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Three items with two answers each."""
    path = tmp_path / "two.db"
    with Store.create(path, {"seed": 0, "each": 0, "title": "Kettles"}) as store:
        store.add(items(2))
    with served(create_app(path)) as address:
        yield address, path


@pytest.fixture
def four(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Three items with four answers each."""
    path = tmp_path / "four.db"
    with Store.create(path, {"seed": 1, "each": 0, "title": "Kettles"}) as store:
        store.add(items(4))
    with served(create_app(path)) as address:
        yield address, path


def judgements(path: Path) -> list[Judgement]:
    with Store(path) as store:
        return store.judgements()


def texts_by_rank(path: Path, judgement: Judgement) -> dict[str, int]:
    with Store(path) as store:
        return {answer.text: judgement.ranks[answer.id] for answer in store.item(judgement.item).answers}


def begin(page: Page, name: str = "ann") -> None:
    page.get_by_label("Your name").fill(name)
    page.keyboard.press("Enter")
    expect(page.locator(".answer").first).to_be_visible()


def seen(page: Page) -> list[str]:
    """The answers in sight, each by the words it begins with."""
    return [text.split("\n")[0] for text in page.locator(".answer .markdown").all_inner_texts()]


# The server


def test_nobody_is_told_who_wrote_an_answer(two: tuple[str, Path]) -> None:
    address, _ = two
    with httpx2.Client(base_url=address) as client:
        pages = ("/", "/api/project", "/api/next?annotator=a", "/api/items/1?annotator=a", "/api/progress")
        told = [client.get(page) for page in (*pages, "/api/history?annotator=a")]
        assert all(answer.status_code == 200 and "secret" not in answer.text for answer in told)
        assert client.get("/two.db").status_code == client.get("/page/../two.db").status_code == 404


def test_every_answer_carries_the_strict_policy(two: tuple[str, Path]) -> None:
    for path in ("/", "/page/main.js", "/chat/dom.js", "/api/progress", "/nowhere"):
        headers = httpx2.get(two[0].rstrip("/") + path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"


def test_pages_of_other_origins_and_other_names_are_refused(two: tuple[str, Path], tmp_path: Path) -> None:
    address, path = two
    body = {"item": 1, "annotator": "eve", "verdict": "bad"}
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        assert httpx2.post(f"{address}api/judgements", json=body, headers=headers).status_code == 403
    assert judgements(path) == []
    assert (
        httpx2.post(f"{address}api/judgements", json=body, headers={"Origin": address.rstrip("/")}).status_code == 201
    )
    with served(create_app(path, ("lab.example",))) as other:
        assert httpx2.get(other, headers={"Host": "lab.example"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"item": 99, "annotator": "a", "verdict": "bad"}, 400),
        ({"item": 1, "annotator": "a", "verdict": "ranked", "ranks": {"1": 1}}, 400),
        ({"item": 1, "annotator": "   ", "verdict": "bad"}, 422),
        ({"item": 1, "annotator": "a", "verdict": "splendid"}, 422),
        ({"item": 1, "annotator": "a", "verdict": "bad", "more": 1}, 422),
        ({"item": 1, "annotator": "a", "verdict": "bad", "comment": "x" * 70_000}, 413),
    ],
)
def test_a_judgement_that_cannot_be_meant_is_refused_with_words(
    two: tuple[str, Path], body: dict[str, Any], status: int
) -> None:
    told = httpx2.post(f"{two[0]}api/judgements", json=body)
    assert told.status_code == status and told.json()["error"]
    assert judgements(two[1]) == []


def test_the_command_serves_until_it_is_stopped_and_leaves_in_good_order(tmp_path: Path) -> None:
    path = tmp_path / "served.db"
    with Store.create(path, {"seed": 0, "each": 0, "title": ""}) as store:
        store.add(items(2))
    command = [sys.executable, "-m", "luhuo", "rank", "serve", str(path), "--port", "0"]
    environment = os.environ | {"LUHUO_LANG": "en"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stderr is not None
        address = running.stderr.readline().removeprefix("Rank at").strip()
        body = {"item": 1, "annotator": "ann", "verdict": "bad"}
        try:
            assert httpx2.post(f"{address}api/judgements", json=body).status_code == 201
        finally:  # a server that is not stopped would be waited for
            running.send_signal(signal.SIGINT)
        assert "every judgement is kept" in running.stderr.read()
    assert running.returncode == 0 and len(judgements(path)) == 1


# The page


@needs_browser
def test_two_answers_are_judged_with_one_key_each_and_nothing_is_lost(browser: Browser, two: tuple[str, Path]) -> None:
    address, path = two
    with watched(browser, address) as page:
        begin(page)
        first = seen(page)
        expect(page.locator("#count")).to_have_text("0 of 3")
        page.fill("#comment", "because 1 is short")  # keys in the comment are its text
        assert judgements(path) == []
        page.locator("#how").click()
        page.keyboard.press("2")
        expect(page.locator("#count")).to_have_text("1 of 3")
        (said,) = judgements(path)
        ranks = texts_by_rank(path, said)
        assert {text.split("\n")[0].replace("*", ""): rank for text, rank in ranks.items()} == {
            first[0]: 2,
            first[1]: 1,
        }
        assert said.comment == "because 1 is short" and said.seconds > 0
        page.keyboard.press("0")
        expect(page.locator("#count")).to_have_text("2 of 3")
        page.keyboard.press("b")
        expect(page.locator("#how")).to_contain_text("nothing left to judge")
        assert sorted(one.verdict for one in judgements(path)) == ["bad", "ranked", "ranked"]


@needs_browser
def test_a_closed_page_goes_on_where_it_stood_and_one_may_go_back(browser: Browser, two: tuple[str, Path]) -> None:
    address, path = two
    with watched(browser, address) as page:
        begin(page, "李雷")
        page.keyboard.press("1")
        expect(page.locator("#count")).to_have_text("1 of 3")
        page.reload()
        expect(page.locator("#count")).to_have_text("1 of 3")
        expect(page.locator("#who")).to_have_text("You: 李雷")
        page.keyboard.press("z")
        expect(page.locator(".said")).to_contain_text("You judged this one before")
        page.keyboard.press("s")
        expect(page.locator(".said")).to_have_count(0)
        (said,) = judgements(path)
        assert said.verdict == "skipped" and said.annotator == "李雷"


@needs_browser
def test_four_answers_are_put_in_order_by_keys_with_ties(browser: Browser, four: tuple[str, Path]) -> None:
    address, path = four
    with watched(browser, address) as page:
        begin(page)
        shown = page.locator(".answer").evaluate_all("cards => cards.map(card => Number(card.dataset.id))")
        for key in ("3", "1", "=", "4"):
            page.keyboard.press(key)
        expect(page.locator(".tier")).to_have_count(2)
        page.keyboard.press("Enter")  # the one that is left over is the last
        expect(page.locator("#count")).to_have_text("1 of 3")
        (said,) = judgements(path)
        assert said.ranks == {shown[2]: 1, shown[0]: 2, shown[3]: 2, shown[1]: 3}
        page.keyboard.press("1")
        page.keyboard.press("1")  # taken back
        expect(page.locator(".tier")).to_have_count(0)
        page.keyboard.press("Enter")
        expect(page.locator("#count")).to_have_text("1 of 3")
        page.keyboard.press("b")
        expect(page.locator("#count")).to_have_text("2 of 3")


@needs_browser
def test_letters_are_dragged_to_places_of_their_own_and_onto_others(browser: Browser, four: tuple[str, Path]) -> None:
    address, path = four
    with watched(browser, address) as page:
        begin(page)
        shown = page.locator(".answer").evaluate_all("cards => cards.map(card => Number(card.dataset.id))")
        chip = lambda letter: page.locator(".chip", has_text=letter)  # noqa: E731
        chip("B").drag_to(page.locator(".gap").first)
        chip("A").drag_to(page.locator(".gap").first)
        expect(page.locator(".tier .chip")).to_have_text(["A", "B"])
        chip("C").drag_to(page.locator(".tier").last)
        expect(page.locator(".tier")).to_have_count(2)
        chip("A").drag_to(page.locator(".gap").last)
        chip("D").drag_to(page.locator(".gap").first)
        expect(page.locator(".tier .chip")).to_have_text(["D", "B", "C", "A"])
        page.get_by_role("button", name="Save order").click()
        expect(page.locator("#count")).to_have_text("1 of 3")
        (said,) = judgements(path)
        assert said.ranks == {shown[3]: 1, shown[1]: 2, shown[2]: 2, shown[0]: 3}


@needs_browser
def test_the_page_speaks_chinese_and_tells_how_far_people_agree(browser: Browser, two: tuple[str, Path]) -> None:
    address, path = two
    with Store(path) as store:
        for who, better in (("韩梅梅", 1), ("李雷", 1), ("ann", 2)):
            for number in store.numbers():
                a, b = store.item(number).answers
                store.judge(Judgement(number, who, "ranked", {a.id: better, b.id: 3 - better}, seconds=4))
    with watched(browser, address, locale="zh-CN") as page:
        page.get_by_label("你的名字").fill("新人")
        page.keyboard.press("Enter")
        expect(page.locator("#how")).to_have_text("哪个回答更好？")
        page.get_by_role("button", name="进度").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("3 道题中已有人评判 3 道")
        expect(dialog.get_by_role("row", name="李雷 · 韩梅梅")).to_contain_text("100%")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="English").click()
        expect(page.locator("#how")).to_have_text("Which answer is better?")


@needs_browser
def test_what_models_wrote_is_text_and_never_a_script(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "attack.db"
    with Store.create(path, {"seed": 0, "each": 0, "title": ATTACK}) as store:
        store.add([([{"role": "user", "content": ATTACK}], [(ATTACK, "x"), ("fine", ATTACK)], {})])
    with served(create_app(path)) as address, watched(browser, address) as page:
        begin(page, "<b>bold</b>")
        expect(page.locator("#answers")).to_contain_text("<script>document.title='owned'</script>")
        assert page.locator("main img, main script, main a[href^='javascript']").count() == 0
        assert page.title() == "Luhuo ranking"
        expect(page.locator("#who")).to_have_text("You: <b>bold</b>")


@needs_browser
def test_what_could_not_be_saved_is_said_and_stays_in_sight(browser: Browser, two: tuple[str, Path]) -> None:
    # The server fails, and not the browser: a request that Chromium was told to block once went through.
    path = two[1]
    app = Breaking(create_app(path))
    with served(app) as address, watched(browser, address) as page:
        begin(page)
        app.broken = True
        page.keyboard.press("1")
        expect(page.locator("#notices")).to_contain_text("was not saved")
        expect(page.locator("#count")).to_have_text("0 of 3")
        app.broken = False
        page.keyboard.press("1")
        expect(page.locator("#count")).to_have_text("1 of 3")
        assert len(judgements(path)) == 1


@needs_browser
def test_the_page_as_it_looks(browser: Browser, four: tuple[str, Path]) -> None:
    address, _ = four
    with watched(browser, address) as page:
        begin(page)
        for key in ("2", "4"):
            page.keyboard.press(key)
        expect(page.locator(".tier")).to_have_count(2)
        overflow = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert page.evaluate(overflow)
        IMAGES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=IMAGES / "rank.png")
        page.set_viewport_size({"width": 390, "height": 780})
        assert page.evaluate(overflow)
