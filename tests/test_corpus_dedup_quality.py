"""How many planted duplicates are found and how many of the found are such: the world's dirty corpus, real texts."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from luhuo.corpus.dedup import candidates
from luhuo.corpus.dedup.folding import columns, fold, fold_text
from luhuo.corpus.dedup.similarity import agrees, is_duplicate, jaccard
from luhuo.corpus.dedup.stages import Near
from luhuo.world import dirty, facts
from luhuo.world.write import make_pages
from tests.dedup_cases import deduplicated, edited, record


@pytest.fixture(scope="module")
def pages() -> list[Any]:
    """Pages of the world: many of them of one form with other facts."""
    found = make_pages(5, facts.build(0, "train"), 1e12, "dirty")
    return [next(found) for _ in range(1200)]


def pairs(groups: dict[str, str]) -> set[tuple[str, str]]:
    """Pairs of names with one group."""
    members: dict[str, list[str]] = defaultdict(list)
    for name, group in groups.items():
        members[group].append(name)
    return {pair for names in members.values() for pair in itertools.combinations(sorted(names), 2)}


def test_every_duplicate_of_the_worlds_dirty_corpus_is_found_and_nothing_else(
    tmp_path: Path, pages: list[Any]
) -> None:
    rows, labels = dirty.corpus(pages, [], random.Random(0))
    langs = {row["id"]: row["lang"] for row in rows}
    records = {row["id"]: record(row["text"], row["id"], row["lang"]) for row in rows}
    found = deduplicated(tmp_path, list(records.values()), paragraphs=None)
    cluster = {name: found[row["id"]].cluster for name, row in records.items()}
    hits: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for label in labels:
        if label["defect"] in ("exact_duplicate", "near_duplicate"):
            hits[label["defect"], langs[label["id"]]].append(cluster[label["id"]] == cluster[label["of"]])
    assert len(hits) == 4
    for (defect, _), found_or_not in hits.items():
        assert sum(found_or_not) / len(found_or_not) >= (1 if defect == "exact_duplicate" else 0.95)
    texts = {row["id"]: row["text"] for row in rows}
    page = {label["id"]: texts[label.get("of", label["id"])] for label in labels}
    joined = pairs(cluster)
    right = sum(_one_page(page[one], page[other]) for one, other in joined)
    assert right / len(joined) >= 0.99


def _one_page(one: str, other: str) -> bool:
    """Whether one of the two is the other with something added: personal data are added to copies of pages."""
    short, long = sorted((fold_text(one), fold_text(other)), key=len)
    return long.startswith(short) or short == long


def check_edits(tmp_path: Path, texts: Sequence[str], unit: str, rng: random.Random) -> None:
    """Recall of 95% for each kind of edit of 5%, and of all together; precision of 99%."""
    for kind in ("delete", "replace", "insert", "swap", None):
        kinds = [kind] if kind else ["delete", "replace", "insert", "swap"]
        originals = [record(text, place=place) for place, text in enumerate(texts)]
        copies = [record(edited(text, 0.05, rng, unit, kinds), "copy", place=p) for p, text in enumerate(texts)]
        found = deduplicated(tmp_path / f"{unit}{kind}", originals + copies, paragraphs=None)
        both = [(found[one["id"]], found[two["id"]]) for one, two in zip(originals, copies, strict=True)]
        hit = sum(one.cluster == two.cluster for one, two in both)
        assert hit >= 0.95 * len(texts), (kind, hit, len(texts))
        planted = {tuple(sorted((one["id"], two["id"]))) for one, two in zip(originals, copies, strict=True)}
        joined = pairs({name: verdict.cluster for name, verdict in found.items()})
        assert len(joined & planted) >= 0.99 * len(joined), (kind, len(joined), len(joined & planted))


@pytest.mark.parametrize(("lang", "unit"), [("zh", "character"), ("en", "character"), ("en", "word")])
def test_five_percent_of_edits_in_pages_of_the_world(tmp_path: Path, pages: list[Any], lang: str, unit: str) -> None:
    texts = [page.text for page in pages if page.lang == lang]
    long_enough = columns(fold(texts)) >= 120
    distinct = {fold_text(text): text for text, chosen in zip(texts, long_enough, strict=True) if chosen}
    check_edits(tmp_path, list(distinct.values())[:250], unit, random.Random(1))


def real_texts(name: str) -> list[str]:
    """Real texts of a set, each with something of its own."""
    if "LUHUO_TEST_DATA" not in os.environ:
        pytest.skip("LUHUO_TEST_DATA names no folder with real texts")
    root = Path(os.environ["LUHUO_TEST_DATA"])
    if name == "stories":
        text = gzip.decompress((root / "tinystories_sample/tinystories_sample.txt.gz").read_bytes()).decode()
        return [story.strip() for story in text.split("<|endoftext|>") if len(story) > 300]
    lines = gzip.decompress((root / "zh_wiki_qa/drcd_corpus.jsonl.gz").read_bytes()).decode().splitlines()
    return [json.loads(line)["text"] for line in lines]


@pytest.mark.parametrize(
    ("name", "unit"), [("stories", "character"), ("stories", "word"), ("encyclopedia", "character")]
)
def test_five_percent_of_edits_in_real_texts(tmp_path: Path, name: str, unit: str) -> None:
    check_edits(tmp_path, random.Random(0).sample(real_texts(name), 200), unit, random.Random(2))


FORM_EN = (
    "{0} is a village in the north of the county. The parish of {0} has a church and a mill, and the road from {0} "
    "to the coast is closed in winter. Most people of {0} work in the fields; a market is held on the green."
)
FORM_ZH = (
    "{0}是该县北部的一个村子。{0}有一座寺庙和一座磨坊，从{0}到海边的路冬天不通。"
    "{0}的人大多种地为生，每月在草地上赶一次集，附近的人都来{0}买布和茶叶。"
)
NUMBERS = (
    "In {} there were {} people in {} houses; {} were at school, {} in work, {} over seventy. The river is {} km off."
)


@pytest.mark.parametrize(("form", "one", "other"), [(FORM_EN, "Ashford", "Oakley"), (FORM_ZH, "柳林村", "石桥镇")])
def test_one_form_filled_for_two_subjects_is_no_duplicate(form: str, one: str, other: str) -> None:
    left, right = fold_text(form.format(one)), fold_text(form.format(other))
    assert agrees(left, right, 0.75)
    assert not is_duplicate(left, right, Near(similarity=0.75))
    assert is_duplicate(left, fold_text(edited(form.format(one), 0.05, random.Random(3))), Near(similarity=0.75))


def test_one_form_filled_with_other_numbers_is_no_duplicate() -> None:
    left, right = NUMBERS.format(1990, 812, 207, 101, 433, 96, 7), NUMBERS.format(1991, 744, 198, 88, 401, 92, 9)
    assert agrees(fold_text(left), fold_text(right), 0.75)
    assert not is_duplicate(fold_text(left), fold_text(right), Near(similarity=0.75))


VILLAGE = (
    "{}是{}县的一个村子，人口{}人，面积{}平方公里，海拔{}米，邮政编码{}。当地居民大多以种植水稻和茶叶为生，"
    "村中有小学一所、卫生室一间，每逢农历初一和十五赶集，附近{}村的人也来买卖。"
)


def test_copies_are_found_among_hundreds_of_fillings_of_one_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "ALL_PAIRS", 16)
    rng = random.Random(0)
    names = ["".join(rng.choices("河石面包早晨轮车马村路园信冬桥灯歌山水火木金土", k=3)) for _ in range(100)]
    most = (9999, 99, 3000, 999999)
    forms = [
        VILLAGE.format(*rng.choices(names, k=2), *(rng.randint(10, top) for top in most), rng.choice(names))
        for _ in range(300)
    ]
    originals = [record(text, place=place) for place, text in enumerate(forms)]
    copies = [record(edited(text, 0.05, rng), "copy", place=place) for place, text in enumerate(forms[:60])]
    found = deduplicated(tmp_path, originals + copies, paragraphs=None)
    hit = sum(
        found[one["id"]].cluster == found[two["id"]].cluster for one, two in zip(originals, copies, strict=False)
    )
    assert hit >= 57
    assert sum(not verdict.kept for verdict in found.values()) <= 61


def test_a_text_with_its_parts_in_another_order_is_a_duplicate() -> None:
    rng = random.Random(4)
    parts = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=200)) for _ in range(4)]
    left, right = "".join(parts), "".join([parts[2], parts[3], parts[0], parts[1]])
    assert not agrees(left, right, 0.88)
    assert jaccard(left, right, Near()) > 0.9
    assert is_duplicate(left, right, Near())
