"""Looking through a corpus: filters find what a plain scan finds; the page in a real browser; the terminal."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, expect
from rich.console import Console

from luhuo.browse import query as searching
from luhuo.browse import terminal
from luhuo.browse.app import create_app, range_of
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
from tests.corpus_view_cases import ATTACK, EMAIL, PHONE, english, make_corpus, village, write
from tests.page_browser import needs_browser, watched
from tests.test_rank_page import served

IMAGES = Path(os.environ.get("LUHUO_SCREENSHOTS", Path(__file__).parents[1] / "docs/images"))
PEOPLE = re.compile("[0-9]{3} (people|berries)")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of this file's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUHUO_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filter artifact with its ancestors beside it; paragraphs that repeat were cut."""
    notice = (
        "\n\nThis tale was brought to you by the village council, and all rights of it are with those who tell it, "
    )
    notice += "whoever they may be, in all of its versions.\n\n"
    documents = village(40)
    for number in range(6):
        documents[4 * number + 20]["text"] += notice + english(3000 + number)
    return make_corpus(tmp_path_factory.mktemp("browse"), documents=documents)


@pytest.fixture(scope="module")
def searcher(clean: Path) -> Iterator[Searcher]:
    with Searcher(clean) as held:
        yield held


def found(index: Index, query: Query, limit: int = 1000) -> list[tuple[int, int]]:
    """Places of all documents that fit, page after page."""
    places: list[tuple[int, int]] = []
    start: tuple[int, int] | None = (0, 0)
    while start is not None:
        page = search(index, query, start, limit)
        places += [(hit["part"], hit["line"]) for hit in page.hits]
        start = page.next
    return places


def test_every_filter_finds_what_a_scan_of_all_rows_finds(clean: Path) -> None:
    corpus = open_corpus(clean)
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


def test_a_search_goes_on_where_its_time_ended(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index(open_corpus(clean))
    whole = found(index, Query(text="the"))
    monkeypatch.setattr(searching, "BUDGET_S", 0.0)
    assert search(index, Query(text="the"), (0, 0), 1000).next == (0, whole[0][1] + 1)
    assert found(index, Query(text="the")) == whole


def test_what_is_shown_as_written_is_what_the_filter_stage_wrote(clean: Path) -> None:
    index = Index(open_corpus(clean))
    written = {row["id"]: row["text"] for split in SPLITS for row in read_documents(clean, split)}
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
    clean = make_corpus(tmp_path, 12, privacy="synthetic", privacy_key="THE_KEY", seed=5)
    index = Index(open_corpus(clean))
    (place,) = found(index, Query(state="changed"))
    told = document(index, *place)
    written = {row["id"]: row["text"] for split in SPLITS for row in read_documents(clean, split)}
    assert "".join(text for text, _, _ in told["after"]) == written[told["about"]["id"]]
    put = [text for text, mark, _ in told["after"] if mark == "personal:phone"]
    assert len(put) == 2 and put[0] == put[1] != PHONE
    monkeypatch.delenv("THE_KEY")
    put = [text for text, mark, _ in document(index, *place)["after"] if mark == "personal:phone"]
    assert put[0] == put[1] and put[0].startswith("<")


def test_hidden_personal_data_keeps_its_form_only(clean: Path) -> None:
    index = Index(open_corpus(clean))
    (place,) = found(index, Query(text=PHONE))
    told = document(index, *place)
    hidden = "".join(masked for _, _, masked in told["before"])
    assert PHONE not in hidden and EMAIL not in hidden and "00000000000" in hidden


def test_signals_stand_beside_their_limits_with_what_is_broken_first(clean: Path) -> None:
    index = Index(open_corpus(clean))
    told = document(index, *found(index, Query(reason="mojibake_gbk"))[0])
    first, rest = told["signals"][0], told["signals"][2:]
    assert first["broken"] and first["reason"] in {reason["code"] for reason in told["reasons"]}
    assert not any(one["broken"] for one in rest)
    assert all(reason["why"] for reason in told["reasons"]) and told["after"] is None


def test_items_of_evaluation_sets_in_a_document_are_told(clean: Path) -> None:
    index = Index(open_corpus(clean))
    (place,) = found(index, Query(reason="benchmark"))
    told = document(index, *place)
    values = {one["name"]: one["value"] for one in told["signals"]}
    assert values["benchmark.quiz"] == ["quiz.jsonl:1#quiz-7"]


def test_columns_are_made_once_and_again_for_another_corpus(clean: Path, cache: Path, tmp_path: Path) -> None:
    index = Index(open_corpus(clean))
    part = parts(index.corpus)[0]
    index.columns(part)
    files = {file: file.stat().st_mtime_ns for file in cache.rglob("*.npz")}
    Index(open_corpus(clean)).columns(part)
    assert {file: file.stat().st_mtime_ns for file in cache.rglob("*.npz")} == files
    other = Index(open_corpus(make_corpus(tmp_path, 5)))
    assert len(other.columns(parts(other.corpus)[0])) != len(index.columns(part))
    verify(clean)


def test_damaged_columns_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUHUO_CACHE", str(tmp_path / "cache"))
    clean = make_corpus(tmp_path, 5)
    part = parts(open_corpus(clean))[0]
    ids = Index(open_corpus(clean)).columns(part).ids.tolist()
    file = next((tmp_path / "cache").rglob(f"{part.name}.npz"))
    whole = file.read_bytes()
    for damaged in (whole[:200], b"", whole[:-1000] + b"x" * 1000):
        file.write_bytes(damaged)
        assert Index(open_corpus(clean)).columns(part).ids.tolist() == ids
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
    clean = make_corpus(tmp_path, 15)
    report = json.loads((clean / "report.json").read_text())
    shutil.rmtree(tmp_path / "annotated")
    index = Index(open_corpus(clean))
    assert len(found(index, Query(state="kept"))) == report["kept"]
    dropped = found(index, Query(state="dropped"))
    assert len(dropped) == report["read"] - report["kept"]
    assert document(index, *dropped[0])["reasons"][0]["code"] in report["dropped"]


# The process that searches


def test_an_expression_that_never_ends_is_stopped_and_the_next_search_works(clean: Path) -> None:
    with Searcher(clean, patience_s=30) as held:
        held.about()
        held.patience_s = 1.5
        with pytest.raises(LuhuoError, match="no answer within") as error:
            held.search(Query(text="([a-z ]+)+#", regex=True))
        assert "repeats inside repeats" in str(error.value)
        held.patience_s = 30
        assert len(held.search(Query(text=PHONE))["hits"]) == 1


def test_a_process_that_ended_is_told_and_started_again(clean: Path) -> None:
    with Searcher(clean) as held:
        held.about()
        process = held._process
        assert process is not None
        process.kill()
        process.wait()
        assert held.search(Query(text=PHONE))["hits"], "started again before it was asked"
        shutil.move(clean, clean.parent / "moved")
        try:
            held.close()
            with pytest.raises(LuhuoError, match="not a Luhuo artifact"):
                held.about()
        finally:
            shutil.move(clean.parent / "moved", clean)


def test_mistakes_come_back_as_words(searcher: Searcher) -> None:
    for query in (Query(text="(", regex=True), Query(id="xyz")):
        with pytest.raises(LuhuoError, match="This is not"):
            searcher.search(query)
    for place in ((0, 10**6), (99, 0), (-1, 0)):
        with pytest.raises(LuhuoError, match="no such document"):
            searcher.document(*place)


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


def test_the_command_serves_until_it_is_stopped(clean: Path) -> None:
    command = [sys.executable, "-m", "luhuo", "corpus-browse", str(clean), "--port", "0"]
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
def test_the_card_is_drawn_in_both_themes_without_overflow(browser: Browser, clean: Path, tmp_path: Path) -> None:
    from luhuo.report.corpus_card.write import write_card

    for theme, language in (("light", "en"), ("dark", "zh")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LUHUO_LANG", language)
            card = write_card(clean, tmp_path / f"{theme}.html")
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


# The terminal


@pytest.mark.parametrize(
    ("line", "query"),
    [
        ("village gate", Query(text="village gate")),
        ('"two words" lang=zh', Query(text="two words", lang="zh")),
        ("/a b|c/", Query(text="a b|c", regex=True)),
        ("gopher.words>=5 gopher.words<=9.5", Query(signals=(Range(name="gopher.words", min=5, max=9.5),))),
        ("state=dropped reason=symbols", Query(state="dropped", reason="symbols")),
    ],
)
def test_a_line_is_a_query(line: str, query: Query) -> None:
    assert terminal.parse(line, Query()) == query


def test_filters_stay_until_they_are_emptied_or_all_are_forgotten() -> None:
    query = terminal.parse("village lang=zh gopher.words>=5", Query())
    assert terminal.parse("state=kept", query) == query.model_copy(update={"state": "kept"})
    assert terminal.parse("lang=", query).lang == ""
    assert terminal.parse("all", query) == Query()
    for line in ("state=splendid", "gopher.words>=x", '"open'):
        with pytest.raises(LuhuoError):
            terminal.parse(line, query)


def shown(folder: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What a person sees who types these lines."""
    screen = io.StringIO()
    monkeypatch.setattr(terminal, "Console", lambda **_: Console(file=screen, width=160, highlight=False))
    waiting = iter(lines)

    def ask() -> str:
        try:
            return next(waiting)
        except StopIteration:
            raise EOFError from None

    terminal.browse(folder, Query(), ask)
    return screen.getvalue()


def test_a_person_searches_and_reads_a_document_in_the_terminal(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = shown(clean, [PHONE, "1", "/(/", "9", "?", "all reason=mojibake_gbk", "1", "q", "1"], monkeypatch)
    assert "<电话号码>" in screen and "not a regular expression" in screen and "no such document" in screen
    assert "mojibake_gbk" in screen and "damage.gbk" in screen and "state=kept" in screen


def test_text_of_the_corpus_cannot_steer_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert terminal.plain("a\x1b[31mb\x07\nc") == "a�[31mb�\nc"
    documents = [{"text": f"{english(n)} [bold red]oops[/]"} for n in range(30)]
    screen = shown(make_corpus(tmp_path, documents=documents), ["oops", "1"], monkeypatch)
    assert "[bold red]oops[/]" in screen


def test_one_query_on_the_command_line_is_printed(clean: Path) -> None:
    command = [sys.executable, "-m", "luhuo", "corpus-browse", str(clean), "--query", "lang=zh 钟楼"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "140"}, check=False)
    assert done.returncode == 0 and "钟楼" in done.stdout, done.stderr
    assert "Traceback" not in done.stderr
