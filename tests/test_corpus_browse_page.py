"""Looking through a corpus in a browser: the server that only answers its own page, and the page itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, expect

from luhuo.browse.app import create_app, range_of
from luhuo.browse.query import Query, Range
from luhuo.browse.worker import Searcher
from tests.app_server import served
from tests.corpus_view_cases import ATTACK, EMAIL, PHONE
from tests.page_browser import needs_browser, watched

IMAGES = Path(os.environ.get("LUHUO_SCREENSHOTS", Path(__file__).parents[1] / "docs/images"))

# The server


def test_the_server_only_answers_its_own_page(searcher: Searcher) -> None:
    with served(create_app(searcher)) as address:
        for path in ("", "page/main.js", "chat/dom.js", "api/corpus", "nowhere"):
            headers = httpx2.get(address + path).headers
            assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
        assert httpx2.get(f"{address}api/corpus", headers={"Host": "evil.example"}).status_code == 403
        assert httpx2.get(f"{address}api/corpus", headers={"Origin": "http://evil.example"}).status_code == 403
        assert httpx2.get(f"{address}page/../manifest.json").status_code == 404


@pytest.mark.parametrize(
    ("question", "status"),
    [
        ("text=(&regex=true", 400),
        ("state=splendid", 400),
        ("signal=gopher.words:a:b", 400),
        ("id=xyz", 400),
        ("limit=100000", 422),
        ("part=-1", 422),
        ("text=" + "x" * 2000, 422),
        ("part=99&line=99", 200),
    ],
)
def test_a_question_that_cannot_be_meant_is_refused_with_words(searcher: Searcher, question: str, status: int) -> None:
    with served(create_app(searcher)) as address:
        told = httpx2.get(f"{address}api/search?{question}")
        assert told.status_code == status and (status == 200 or told.json()["error"])


def test_a_range_may_be_open_on_either_side() -> None:
    assert range_of("gopher.words:5:") == Range(name="gopher.words", min=5, max=None)
    assert range_of("a.b::0.5") == Range(name="a.b", min=None, max=0.5)


def test_the_command_serves_until_it_is_stopped(clean_corpus: Path) -> None:
    command = [sys.executable, "-m", "luhuo", "corpus-browse", str(clean_corpus), "--port", "0"]
    environment = os.environ | {"LUHUO_LANG": "en"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stderr is not None
        address = running.stderr.readline().removeprefix("Corpus at").strip()
        try:
            assert httpx2.get(f"{address}api/search?lang=zh&limit=5", timeout=60).json()["hits"]
        finally:  # a server that is not stopped would be waited for
            running.send_signal(signal.SIGINT)
        assert "nothing was changed" in running.stderr.read()
    assert running.returncode == 0


# The page


@needs_browser
def test_a_reason_leads_to_documents_and_a_document_back_to_the_list(browser: Browser, searcher: Searcher) -> None:
    with served(create_app(searcher)) as address, watched(browser, address) as page:
        expect(page.locator(".hits li")).to_have_count(30)
        page.get_by_role("button", name="More").click()
        expect(page.locator(".hits li")).to_have_count(60)
        page.locator("select[name=reason]").select_option("boilerplate")
        expect(page.locator(".hits li")).to_have_count(1)
        expect(page.locator(".excerpt")).to_contain_text("<script>document.title='owned'</script>")
        page.locator(".hits a").click()
        expect(page.locator(".text.before")).to_contain_text(ATTACK)
        expect(page.locator("tr.broken").last).to_contain_text("outside: boilerplate")
        expect(page.locator(".text-column").nth(1)).to_contain_text("it was dropped")
        page.go_back()
        expect(page.locator(".hits li")).to_have_count(1)
        page.get_by_role("button", name="Forget all filters").click()
        expect(page.locator(".hits li")).to_have_count(30)


@needs_browser
def test_a_document_is_seen_before_and_after_and_personal_data_can_be_hidden(
    browser: Browser, searcher: Searcher
) -> None:
    with served(create_app(searcher)) as address, watched(browser, address) as page:
        page.locator("select[name=state]").select_option("changed")
        expect(page.locator(".hits li")).to_have_count(6)
        page.get_by_label("Search in texts").fill(PHONE)
        page.get_by_role("button", name="Search").click()
        expect(page.locator(".excerpt mark")).to_have_text(PHONE)
        page.locator(".hits a").click()
        expect(page.locator(".before mark.personal")).to_have_text([PHONE, EMAIL, PHONE])
        expect(page.locator(".after mark.replaced")).to_have_text(["<电话号码>", "<邮箱>", "<电话号码>"])
        page.get_by_label("Hide personal data").check()
        expect(page.locator(".before")).not_to_contain_text(PHONE)
        page.get_by_label("Hide personal data").uncheck()
        page.set_viewport_size({"width": 1280, "height": 820})
        IMAGES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=IMAGES / "corpus-browse.png")


@needs_browser
def test_a_duplicate_stands_beside_what_is_kept_with_differences_marked(browser: Browser, searcher: Searcher) -> None:
    with served(create_app(searcher)) as address, watched(browser, address) as page:
        page.locator("select[name=reason]").select_option("duplicate_near")
        expect(page.locator(".hits li").nth(5)).to_have_count(0)
        page.locator(".hits a").first.click()
        page.get_by_role("button", name="Compare with what is kept").click()
        expect(page.locator(".keptInstead")).to_be_visible()
        assert page.locator("mark.differs").count() > 0
        both = [page.locator(f".text.{name}").inner_text() for name in ("before", "keptInstead")]
        assert both[0] != both[1] and both[0][:20] == both[1][:20]
        page.get_by_role("link", name="All of its cluster").click()
        expect(page.locator(".hits li")).to_have_count(2)


@needs_browser
def test_ranges_of_signals_are_added_and_removed(browser: Browser, searcher: Searcher) -> None:
    with served(create_app(searcher)) as address, watched(browser, address) as page:
        page.locator("select[name=range]").select_option("gopher.words")
        page.get_by_label("at least").fill("100")
        page.get_by_role("button", name="Search").click()
        expect(page.locator(".chip")).to_have_text(["100 ≤ gopher.words ×"])
        wanted = searcher.search(Query(signals=(Range(name="gopher.words", min=100),)), limit=100)["hits"]
        expect(page.locator(".hits li")).to_have_count(min(30, len(wanted)))
        page.locator(".chip").click()
        expect(page.locator(".hits li")).to_have_count(30)


@needs_browser
def test_the_page_speaks_chinese_fits_a_phone_and_says_what_went_wrong(browser: Browser, searcher: Searcher) -> None:
    with (
        served(create_app(searcher)) as address,
        watched(browser, address, locale="zh-CN", color_scheme="dark") as page,
    ):
        expect(page.get_by_label("搜索文本")).to_be_visible()
        page.set_viewport_size({"width": 390, "height": 780})
        overflow = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert page.evaluate(overflow)
        page.get_by_label("正则表达式").check()
        page.get_by_label("搜索文本").fill("(")
        page.get_by_role("button", name="搜索").click()
        expect(page.locator(".notice")).to_contain_text("not a regular expression")  # the server's own language
        page.get_by_role("button", name="English").click()
        expect(page.get_by_label("Search in texts")).to_be_visible()


@needs_browser
def test_the_card_is_drawn_in_both_themes_without_overflow(
    browser: Browser, clean_corpus: Path, tmp_path: Path
) -> None:
    from luhuo.report.corpus_card.write import write_card

    for theme, language in (("light", "en"), ("dark", "zh")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LUHUO_LANG", language)
            card = write_card(clean_corpus, tmp_path / f"{theme}.html")
        with watched(browser, card.as_uri(), ready=False, color_scheme=theme) as page:
            assert page.title().endswith("· Luhuo"), "no script of a document ran"
            for width in (1180, 390):
                page.set_viewport_size({"width": width, "height": 900})
                assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            page.set_viewport_size({"width": 1180, "height": 900})
            IMAGES.mkdir(parents=True, exist_ok=True)
            if theme == "light":
                page.screenshot(path=IMAGES / "corpus-report.png")
            page.locator("#signals").scroll_into_view_if_needed()
            page.evaluate("document.getElementById('signals').scrollIntoView()")
            if theme == "dark":
                page.screenshot(path=IMAGES / "corpus-report-signals.png")
