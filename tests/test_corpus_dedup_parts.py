"""The parts of deduplication, each against a plain reference: folding, pieces, signatures, components, meaning."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.corpus.dedup import minhash, shingles, simhash
from luhuo.corpus.dedup.folding import columns, fold, fold_text
from luhuo.corpus.dedup.shingles import tokens
from luhuo.corpus.dedup.stages import DeduplicateStage
from luhuo.corpus.dedup.unionfind import UnionFind
from luhuo.corpus.factory import records
from tests.dedup_cases import aligned, annotated, deduplicated, edited, record

ENGLISH = "The bus to Northvale was late, and Yin sat down beside a stranger with a calf on a string of hemp. " * 2
CHINESE = "去高屯镇的车晚点了，胡斌在一个牵着一只兔子的陌生人身边坐下。星期三不宜出门，陌生人说着，递过来一块年糕。"


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Ｈello,\u3000WORLD！", "hello,world!"),
        ("他说：“好。”", '他说:"好."'),
        ("「好」…", '"好".'),
        ("1 + 1 ≠ 1 - 1", "1+1≠1-1"),
        ("a\u200bb\ufeffc\u00add\n", "abcd"),
        ("", ""),
        ("𠀀É", "𠀀é"),
    ],
)
def test_the_looser_form(text: str, folded: str) -> None:
    assert fold_text(text) == folded


def test_folded_characters_know_their_place_in_the_text() -> None:
    texts = ["A b，c", " ", "甲 乙"]
    folded = fold(texts)
    assert [folded.text(number).tobytes().decode("utf-32-le") for number in range(3)] == ["ab,c", "", "甲乙"]
    assert folded.places.tolist() == [0, 2, 3, 4, 6, 8]
    assert columns(folded).tolist() == [4, 0, 4]


def plain_pieces(text: str) -> set[str]:
    """Pieces as one would write them by hand: five characters from a Chinese one on, six from any other."""
    folded = fold_text(text)
    found = set()
    for place, letter in enumerate(folded):
        length = 5 if "\u4e00" <= letter <= "\u9fff" else 6
        if place + length <= len(folded):
            found.add(folded[place : place + length])
    return found or {folded}


def test_pieces_are_equal_where_those_of_a_plain_reference_are() -> None:
    rng = random.Random(0)
    texts = [
        ENGLISH,
        edited(ENGLISH, 0.05, rng),
        CHINESE,
        edited(CHINESE, 0.05, rng),
        "甲乙",
        "abc",
        ENGLISH + CHINESE,
    ]
    numbers, starts = shingles.shingles(fold(texts))
    sets = [set(numbers[starts[number] : starts[number + 1]].tolist()) for number in range(len(texts))]
    plain = [plain_pieces(text) for text in texts]
    assert [len(some) for some in sets] == [len(some) for some in plain]
    for one in range(len(texts)):
        for other in range(one):
            assert len(sets[one] & sets[other]) == len(plain[one] & plain[other])


def test_words_are_runs_of_letters_and_single_chinese_characters() -> None:
    found = tokens(fold(["Don't stop, now 3.5km", "喝coffee吧"]))
    assert np.diff(found.starts).tolist() == [9, 3]  # don ' t stop , now 3 . 5km · 喝 coffee 吧
    assert found.is_word.tolist() == [True, False, True, True, False, True, True, False, True, True, True, True]
    numbers, starts = shingles.shingles(fold(["a b c d e f g", "A, b; c d e f", "x y"]), "words")
    assert np.diff(starts).tolist() == [3, 2, 1]
    assert len(set(numbers[:3].tolist()) & set(numbers[3:5].tolist())) == 2


@pytest.mark.parametrize("share", [0.0, 0.02, 0.05, 0.1])
def test_signatures_agree_as_often_as_the_pieces_do(share: float) -> None:
    rng = random.Random(1)
    texts = ["".join(rng.choices("的一是在不了有和人这中大为上个国我以要他", k=400)) for _ in range(20)]
    both = texts + [edited(text, share, rng) if share else text for text in texts]
    numbers, starts = shingles.shingles(fold(both))
    signed = minhash.signatures(numbers, starts, 188)
    true = []
    for number in range(20):
        one, other = (set(numbers[starts[i] : starts[i + 1]].tolist()) for i in (number, number + 20))
        true.append(len(one & other) / len(one | other))
    agreement = (signed[:20] == signed[20:]).mean(axis=1)
    assert abs(agreement.mean() - np.mean(true)) < 0.02
    assert np.abs(agreement - true).max() < 0.13


def test_a_long_text_is_signed_in_parts_to_the_same_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [CHINESE, ENGLISH * 20, "甲", CHINESE * 9]
    numbers, starts = shingles.shingles(fold(texts))
    whole = minhash.signatures(numbers, starts, 40)
    monkeypatch.setattr(minhash, "ROW_SHINGLES", 50)
    assert np.array_equal(minhash.signatures(numbers, starts, 40), whole)


def test_bands_let_through_what_the_threshold_promises() -> None:
    for threshold in (0.4, 0.5, 0.7, 0.8):
        bands, rows = minhash.choose_bands(threshold)
        assert bands * rows <= minhash.MOST_PLACES
        assert minhash.candidate_probability(threshold, bands, rows) >= 0.95
        assert minhash.candidate_probability(threshold / 4, bands, rows) < 0.15
    rng = np.random.default_rng(0)
    left = rng.integers(0, 2**32, (2000, 188), dtype=np.uint32)
    right = np.where(rng.random(left.shape) < 0.45, left, rng.integers(0, 2**32, left.shape, dtype=np.uint32))
    hit = (minhash.band_keys(left, 4) == minhash.band_keys(right, 4)).any(axis=1).mean()
    assert abs(hit - minhash.candidate_probability(0.45, 47, 4)) < 0.03


def test_simhash_is_near_for_near_texts_and_finds_nearly_equal_ones(tmp_path: Path) -> None:
    rng = random.Random(0)
    texts = ["".join(rng.choices("河石面包早晨轮车马村路园信冬桥灯歌山水火木金土人", k=600)) for _ in range(3)]
    near = texts[0][:300] + "灯" + texts[0][300:]
    numbers, starts = shingles.shingles(fold([*texts, near]))
    places = simhash.signatures(numbers, starts).view(np.uint16)
    apart = simhash.distance(places[[0, 0, 0]], places[[3, 1, 2]])
    assert apart[0] <= simhash.DISTANCE and min(apart[1:]) > 15
    rows = [record(text) for text in (*texts, near)]
    found = deduplicated(tmp_path, rows, near={"method": "simhash"})
    assert [found[row["id"]].kept for row in rows] == [False, True, True, True]


def test_words_can_be_the_pieces(tmp_path: Path) -> None:
    rng = random.Random(0)
    text = " ".join(f"{rng.choice('bcdfg')}{rng.choice('aeiou')}{rng.randrange(99)}" for _ in range(200))
    rows = [record(text), record(edited(text, 0.02, rng, "word"))]
    found = deduplicated(tmp_path, rows, near={"pieces": "words"})
    assert sorted(verdict.kept for verdict in found.values()) == [False, True]


def plain_components(count: int, edges: list[tuple[int, int]]) -> list[int]:
    """The smallest number of each component, by walking."""
    names = list(range(count))
    changed = True
    while changed:
        changed = False
        for left, right in edges:
            low = min(names[left], names[right])
            changed |= names[left] != low or names[right] != low
            names[left] = names[right] = low
    return names


@pytest.mark.parametrize("seed", range(5))
def test_components_are_those_of_a_walk_whatever_the_order_of_the_edges(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    edges = [(rng.randrange(200), rng.randrange(200)) for _ in range(120)] + [(n, n + 1) for n in range(100, 140)]
    rng.shuffle(edges)
    components = UnionFind(tmp_path / "parent", 200)
    for begin in range(0, len(edges), 17):
        some = np.array(edges[begin : begin + 17])
        components.join(some[:, 0], some[:, 1])
    assert components.roots(np.arange(200)).tolist() == plain_components(200, edges)


def meanings(folder: Path, artifact: Path, directions: dict[str, np.ndarray]) -> Path:
    """Embeddings of an artifact's records, by the source of each."""
    folder.mkdir(parents=True, exist_ok=True)
    for unit in records.units(artifact):
        rows = [directions[row["id"]] for row in records.read_records(artifact, unit["name"])]
        np.save(folder / f"{unit['name']}.npy", np.array(rows, np.float32))
    return folder


def test_documents_that_mean_the_same_are_joined_in_any_order(tmp_path: Path) -> None:
    rng, random_order = np.random.default_rng(0), random.Random(0)
    rows, directions, groups = [], {}, {}
    for topic in range(30):
        centre = rng.normal(size=48)
        for version in range(1 + topic % 3):
            row = record(f"Version {version} of topic {topic}, in words of its own: {rng.random()}", place=version)
            rows.append(row)
            groups[row["id"]] = topic
            directions[row["id"]] = centre + rng.normal(size=48) * 0.05
    results = []
    for number in range(3):
        artifact = annotated(tmp_path / f"a{number}", random_order.sample(rows, len(rows)), 1 + number)
        values: dict[str, Any] = {"annotated": str(artifact), "executor": "inline", "near": None}
        folder = meanings(tmp_path / f"e{number}", artifact, directions)
        stage = DeduplicateStage.parse(values | {"semantic": {"embeddings": str(folder), "clusters": 4}})
        done = produce("deduplicate", stage, tmp_path / f"d{number}")
        results.append({row["id"]: verdict for row, verdict in aligned(artifact, done.path)})
    assert results[0] == results[1] == results[2]
    clusters = {(groups[name], verdict.cluster) for name, verdict in results[0].items()}
    assert len(clusters) == 30
    assert sum(verdict.kept for verdict in results[0].values()) == 30
    assert {verdict.reason for verdict in results[0].values()} == {None, "semantic"}


def test_embeddings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    rows = [record(f"Text {number}") for number in range(3)]
    artifact = annotated(tmp_path / "a", rows, 1)
    folder = tmp_path / "e"
    folder.mkdir()
    values = {"annotated": str(artifact), "executor": "inline", "semantic": {"embeddings": str(folder)}}
    for bad, message in (
        (np.ones((2, 8)), "do not fit"),
        (np.full((3, 8), np.nan), "finite"),
        (None, "cannot be read"),
    ):
        (folder / "part-00000.npy").unlink(missing_ok=True)
        if bad is not None:
            np.save(folder / "part-00000.npy", bad)
        with pytest.raises(LuhuoError, match=message):
            produce("deduplicate", DeduplicateStage.parse(values), tmp_path / "d")
