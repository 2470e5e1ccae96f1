"""The data card: one file that loads nothing; hostile text escaped, personal data masked; the same for any order."""

from __future__ import annotations

import json
import random
import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from luhuo.cli import app
from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.corpus.documents import SPLITS, read_documents
from luhuo.corpus.factory import records
from luhuo.corpus.stages import CorpusStage
from luhuo.report.corpus_card import tokens as token_counts
from luhuo.report.corpus_card.card import Card
from luhuo.report.corpus_card.family import open_corpus
from luhuo.report.corpus_card.gather import gather
from luhuo.report.corpus_card.histogram import histogram
from luhuo.report.corpus_card.markdown import safe
from luhuo.report.corpus_card.rows import parts, rows
from luhuo.report.corpus_card.sampling import ClusterSizes, Smallest, doubling, doubling_edges
from luhuo.report.corpus_card.write import write_card
from luhuo.tokenizer.stages import TokenizerStage
from tests.corpus_view_cases import ATTACK, EMAIL, PHONE, english, make_corpus, village, write
from tests.test_report import VOID, Strict


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filter artifact with its ancestors beside it."""
    return make_corpus(tmp_path_factory.mktemp("card"))


def card_of(folder: Path) -> Card:
    corpus = open_corpus(folder)
    return Card(corpus, gather(corpus), None)


def test_the_page_is_one_valid_file_that_loads_nothing_and_escapes_the_corpus(clean: Path) -> None:
    page = write_card(clean).read_text(encoding="utf-8")
    parser = Strict()
    parser.feed(page)
    assert parser.open == [] and "script" not in parser.tags and "img" not in parser.tags
    assert all(link.startswith("#") for link in parser.links)
    assert not re.search(r"url\(|@import|http-equiv|<link", page)
    assert ATTACK in parser.words, "hostile text is shown as text"
    assert VOID  # the tags that need no end


def test_personal_data_is_masked_wherever_a_sample_is_shown(clean: Path) -> None:
    for as_markdown in (False, True):
        text = write_card(clean, as_markdown=as_markdown).read_text(encoding="utf-8")
        assert PHONE not in text and EMAIL not in text
    card = card_of(clean)
    assert {row[0]: row[-1] for row in card.personal().rows} == {"email": "1", "phone": "2"}


def test_every_document_is_counted_under_the_reason_the_filter_stage_gave(clean: Path) -> None:
    card, report = card_of(clean), json.loads((clean / "report.json").read_text())
    assert (card.read, card.kept) == (report["read"], report["kept"])
    assert {reason.code: reason.first for reason in card.reasons} == report["dropped"]
    assert all(reason.why for reason in card.reasons)
    for source, langs in report["sources"].items():
        for lang, counts in langs.items():
            assert card.facts.documents[source, lang, ""] == counts["kept"]


def test_a_text_that_occurs_twice_in_a_source_is_dropped_once(clean: Path) -> None:
    corpus = open_corpus(clean)
    twins = [row for part in parts(corpus) for row in rows(corpus, part) if row.record["text"] == english(0)]
    assert len(twins) == 3 and len({row.record["id"] for row in twins}) == 1
    assert [bool(row.reasons) for row in twins] == [False, True, True]


def test_the_limits_stand_in_the_pictures_of_their_signals(clean: Path) -> None:
    card = card_of(clean)
    groups = {group.lang: group for group in card.signal_pictures}
    words = next(picture for picture in groups["en"].limited if picture.title == "gopher.words")
    assert [label for _, label in words.limits] == ["5", "3e+06"]
    gbk = next(picture for picture in groups["zh"].limited if picture.title == "damage.gbk")
    assert any(bar.dropped for bar in gbk.bars if bar.x > gbk.limits[0][0]), "what broke the limit lies beyond it"
    assert not any(bar.dropped for bar in gbk.bars if bar.x + bar.width < gbk.limits[0][0])


def test_clusters_are_shown_with_the_document_that_is_kept_first(clean: Path) -> None:
    clusters = card_of(clean).clusters()
    assert max(count for count, _ in clusters) == 3
    for count, members in clusters:
        assert len(members) == count
        kept = [one for one in members if not one.reasons]
        assert kept == members[: len(kept)] and len(kept) <= 1
    broken = next(members for _, members in clusters if members[0].text.startswith("锟斤拷"))
    assert all(one.reasons[0][0] == "mojibake_gbk" for one in broken), "the best of the cluster broke a rule too"


def test_documents_nearest_to_a_limit_stand_side_by_side(tmp_path: Path) -> None:
    documents = [{"text": english(n)[: 60 + 5 * n]} for n in range(60)]
    clean = make_corpus(tmp_path, documents=documents, rules={"en": {"gopher.words": {"min": 40}}})
    case = next(case for case in card_of(clean).cases() if case.limit.startswith("gopher.words"))
    assert case.limit == "gopher.words ≥ 40"
    dropped, kept = ([one.value or 0 for one in side] for side in (case.dropped, case.kept))
    assert min(dropped) >= 36 and max(dropped) < 40 <= min(kept) and max(kept) < 44
    assert sorted(dropped, reverse=True) == dropped and sorted(kept) == kept, "the nearest first"


def test_repaired_texts_are_counted_by_what_was_wrong_with_them(clean: Path) -> None:
    ((_, how, count),) = card_of(clean).changes().rows
    assert "latin" in how.lower() and count == "1"


def test_items_of_evaluation_sets_are_named_with_the_documents_that_hold_them(clean: Path) -> None:
    card = card_of(clean)
    assert card.benchmarks().rows == [["quiz", "1", "quiz.jsonl:1#quiz-7"]]
    (case,) = (case for case in card.cases() if case.code == "benchmark")
    assert case.dropped[0].reasons == [["benchmark", "quiz"]]


def test_what_could_not_be_read_is_told_by_reason(clean: Path) -> None:
    assert sorted(row[1] for row in card_of(clean).quarantine().rows) == ["bad_json", "not_text"]


def test_the_card_is_the_same_for_another_order_of_the_documents(tmp_path: Path) -> None:
    documents = village(20)
    pages = []
    for order in (0, 1):
        random.Random(order).shuffle(documents)
        page = write_card(make_corpus(tmp_path / str(order), documents=documents)).read_text(encoding="utf-8")
        pages.append(page[: page.index('<section id="lineage">')])
    assert pages[0] == pages[1]


def test_without_the_annotate_artifact_it_says_so_and_shows_what_is_left(tmp_path: Path) -> None:
    clean = make_corpus(tmp_path, 15)
    whole = card_of(clean)
    shutil.rmtree(tmp_path / "annotated")
    shutil.rmtree(tmp_path / "duplicates")
    card = card_of(clean)
    assert (card.read, card.kept) == (whole.read, whole.kept)
    assert {reason.code: reason.first for reason in card.reasons} == {r.code: r.first for r in whole.reasons}
    page = write_card(clean).read_text(encoding="utf-8")
    assert "annotate artifact is gone" in page and "deduplicate artifact is gone" in page


def test_artifacts_that_were_moved_together_are_found_again(tmp_path: Path) -> None:
    make_corpus(tmp_path / "here", 15)
    (tmp_path / "here").rename(tmp_path / "there")
    corpus = open_corpus(tmp_path / "there/clean")
    assert corpus.annotated is not None and corpus.annotated.parent.name == "there"
    assert corpus.duplicates is not None and len(list(rows(corpus, parts(corpus)[0]))) > 30


@pytest.mark.parametrize("stage", ["annotated", "duplicates"])
def test_earlier_stages_have_a_card_of_their_own(clean: Path, stage: str) -> None:
    card = card_of(clean.parent / stage)
    assert card.read == 102
    dropped = [reason.code for reason in card.reasons]
    assert dropped == ([] if stage == "annotated" else ["duplicate_exact", "duplicate_near"])
    assert write_card(clean.parent / stage).is_file()


def test_the_result_of_a_plain_corpus_stage_has_a_card(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw.jsonl", [{"text": english(n)} for n in range(40)], "no json\n")
    source = {"name": "tales", "path": str(raw), "licence": "CC0-1.0", "valid": 0.1, "test": 0.1}
    plain = produce("corpus", CorpusStage.parse({"sources": [source]}), tmp_path / "plain").path
    card = card_of(plain)
    assert card.read == 40 and card.languages == ["en"] and not card.facts.decided
    assert card.quarantine().rows[0][:2] == ["tales", "bad_json"]
    assert "tales" in write_card(plain).read_text(encoding="utf-8")


def test_something_else_is_refused_with_words(tmp_path: Path, clean: Path) -> None:
    with pytest.raises(LuhuoError, match="not a Luhuo artifact"):
        write_card(tmp_path)
    manifest = json.loads((clean / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"stage": "pretrain"}))
    with pytest.raises(LuhuoError, match="no corpus here"):
        write_card(tmp_path)


def test_a_damaged_file_is_an_error_and_no_card(tmp_path: Path) -> None:
    clean = make_corpus(tmp_path, 10)
    path = records.records_path(tmp_path / "annotated", "village-00000")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(LuhuoError, match="damaged"):
        write_card(clean)
    assert not list(tmp_path.glob("*.html"))


@pytest.fixture(scope="module")
def tokenizer(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = {"corpus": str(clean), "vocab_size": 400}
    return produce("tokenizer", TokenizerStage.parse(values), tmp_path_factory.mktemp("t") / "small").path


def test_tokens_of_a_small_corpus_are_counted_exactly(clean: Path, tokenizer: Path) -> None:
    from luhuo.tokenizer.tokenizer import Tokenizer

    opened = Tokenizer.load(tokenizer)
    texts = {split: [row["text"] for row in read_documents(clean, split)] for split in SPLITS}
    counts = token_counts.count_tokens(clean, [str(tokenizer)])
    for split in SPLITS:
        found = counts.count(0, split=split)
        assert (found.tokens, found.margin) == (sum(len(opened.encode(text)) for text in texts[split]), 0)
    assert "small" in write_card(clean, tokenizers=[str(tokenizer)]).read_text(encoding="utf-8")


def test_tokens_of_a_large_corpus_are_estimated_within_their_interval(
    clean: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = token_counts.count_tokens(clean, [str(tokenizer)]).count(0)
    monkeypatch.setattr(token_counts, "SAMPLE_BYTES", 15_000)
    counts = token_counts.count_tokens(clean, [str(tokenizer)])
    estimate = counts.count(0)
    assert 0.2 < counts.share < 0.8 and 0 < estimate.margin < 0.2 * exact.tokens
    assert abs(estimate.tokens - exact.tokens) < 2 * estimate.margin
    assert (estimate.documents, estimate.bytes) == (exact.documents, exact.bytes)


def test_markdown_of_the_corpus_can_open_neither_tags_nor_links(clean: Path) -> None:
    text = write_card(clean, as_markdown=True).read_text(encoding="utf-8")
    assert text.startswith('---\npretty_name: "clean"\n') and "\nlicense: [" in text
    body = text.split("---\n", 2)[2]
    assert not re.search(r"(?<!\\)<(?!/?sub)", body) and not re.search(r"(?<!\\)\]\(", body)
    assert safe("a | b\n<i>[x](http://y)") == "a \\| b \\<i\\>\\[x\\](http:&#8203;//y)"


def test_chinese_readers_get_a_chinese_card(clean: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LUHUO_LANG", "zh")
    page = write_card(clean, tmp_path / "card.html").read_text(encoding="utf-8")
    assert '<html lang="zh-CN">' in page and "丢弃原因" in page and "Why documents were dropped" not in page
    parser = Strict()
    parser.feed(page)
    english_words = re.sub(r"[a-z_]+[._][a-z_0-9.]+|\{.*?\}", "", parser.words, flags=re.DOTALL)
    assert "kept" not in english_words.split() and "dropped" not in english_words.split()


def commands() -> list[list[str]]:
    """The commands of the page of documentation that end by themselves."""
    text = (Path(__file__).parents[1] / "docs/corpus-report.md").read_text(encoding="utf-8")
    blocks = "".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL))
    found = [shlex.split(line)[1:] for line in blocks.splitlines()]
    return [words for words in found if words[0] == "corpus-report" or "--query" in words]


def test_the_commands_in_the_documentation_work(
    clean: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(commands()) == 3
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUHUO_CACHE", str(tmp_path / "cache"))
    for name in ("annotated", "duplicates", "clean"):
        shutil.copytree(clean.parent / name, tmp_path / name)
    shutil.copytree(tokenizer, tmp_path / "tokenizer")
    for words in commands():
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0 and done.output, (words, done.exception)
    assert (tmp_path / "clean.card.html").is_file()


# The parts


def test_a_sample_by_hash_does_not_depend_on_order_and_stays_small() -> None:
    keys = list(range(1000))
    found = []
    for order in range(3):
        random.Random(order).shuffle(keys)
        held: Smallest[str] = Smallest(5)
        for key in keys:
            held.add(key, str(key))
            assert len(held._held) < 10
        found.append(held.values())
    assert found == [["0", "1", "2", "3", "4"]] * 3


def test_cluster_sizes_stay_exact_for_the_share_of_clusters_that_is_kept() -> None:
    sizes = {f"{n * 2654435761 % 2**64:016x}00": 1 + n % 4 for n in range(1, 400)}
    lost = [cluster for cluster, size in sizes.items() for _ in range(size)]
    found = []
    for order in range(2):
        random.Random(order).shuffle(lost)
        held = ClusterSizes(most=100)
        for cluster in lost:
            held.add(cluster)
        found.append((held.share, held.sizes()))
    assert found[0] == found[1] and found[0][0] >= 4
    truth = {int(cluster[:16], 16): size + 1 for cluster, size in sizes.items()}
    assert found[0][1] and all(truth[cluster] == size for cluster, size in found[0][1].items())


def test_lengths_fall_between_the_edges_of_their_bin() -> None:
    edges = list(doubling_edges(60))
    for value in [0, 1, 2, 3, 100, 12345, 10**8]:
        assert edges[doubling(value)] <= max(value, 0) < edges[doubling(value) + 1] or value == 0


def test_a_histogram_counts_every_value_and_draws_what_is_rare() -> None:
    picture = histogram("x", [1.0] * 999 + [float("nan")] + [50.0], [False] * 1000 + [True], most=20)
    assert picture is not None and picture.counted == 1000
    assert [bool(bar.dropped) for bar in picture.bars] == [False, True]
    assert picture.bars[1].dropped >= 1.5 and picture.bars[1].x > picture.limits[0][0]
    assert histogram("x", [float("nan")], [False]) is None
