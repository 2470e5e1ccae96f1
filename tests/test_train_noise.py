"""What the noise of each objective does to a text: how much, where, and that nothing is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from luhuo.corpus.fragments import Fragment, FragmentRows
from luhuo.tokenizer.extend import extend, text_fingerprint
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.tokenizer.training import train
from luhuo.train.denoising.config import FimConfig, InfillingConfig, MaskedConfig, PrefixConfig, SpanConfig
from luhuo.train.denoising.fill_in_the_middle import FimFrame, FimNoise
from luhuo.train.denoising.infilling import InfillingFrame, InfillingNoise
from luhuo.train.denoising.masked_lm import MaskedFrame, MaskedNoise
from luhuo.train.denoising.prefix_lm import PrefixFrame, PrefixNoise
from luhuo.train.denoising.span_corruption import UL2, SpanFrame, SpanNoise, sentinels_needed
from luhuo.train.denoising.words import Words
from tests.objective_runs import TEXTS, material

WIDTH = 512
ORDINARY = np.arange(100, 400)
MASKED = MaskedFrame(first=1, last=2, mask=3, pad=0, ordinary=ORDINARY)


def text_of(length: int, seed: int = 0) -> Fragment:
    return Fragment(np.random.default_rng(seed).integers(100, 400, length), True)


def rows(noise: object, count: int, length: int) -> list[dict[str, np.ndarray]]:
    return [
        noise.row([text_of(length, i)], np.random.default_rng(i + 1))  # type: ignore[attr-defined]
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return material(tmp_path_factory.mktemp("material"))


@pytest.mark.parametrize("rate", [0.15, 0.3])
def test_masking_takes_its_share_and_replaces_in_eighty_ten_ten(rate: float) -> None:
    found = rows(MaskedNoise(WIDTH, MASKED, MaskedConfig(rate=rate)), 300, 500)
    mask = np.concatenate([row["mask"][1:501] for row in found]) != 0
    ids, targets = (np.concatenate([row[name][1:501] for row in found]) for name in ("ids", "targets"))
    assert mask.mean() == pytest.approx(rate, abs=0.002)
    assert (ids == targets)[~mask].all()
    assert (ids[mask] == MASKED.mask).mean() == pytest.approx(0.8, abs=0.01)
    assert (ids[mask] == targets[mask]).mean() == pytest.approx(0.1, abs=0.01)
    assert ids[mask & (ids != MASKED.mask)].min() >= 100
    assert len({tuple(np.flatnonzero(row["mask"])) for row in found}) == 300


def test_half_of_the_pairs_are_from_elsewhere_and_half_are_exchanged() -> None:
    other = np.full(WIDTH, 777)
    for relation in ("next", "order"):
        config = MaskedConfig(layout="bert", relation=relation, masked=0, random=0)
        noise = MaskedNoise(WIDTH, MASKED, config, elsewhere=lambda _, most: other[:most])
        labels = []
        for i, row in enumerate(rows(noise, 400, 60)):
            text = row["targets"][row["segments"] == 1]
            assert list(np.flatnonzero(np.isin(text, (1, 2)))[[0, -1]]) == [0, 62]
            border = int(row["types"].argmax())
            one, second = text[1 : border - 1], text[border:-1]
            labels.append(int(row["relation"][0]))
            whole = text_of(60, i).ids
            if not labels[-1]:
                assert np.array_equal(np.concatenate([one, second]), whole)
            elif relation == "next":
                assert (second == 777).all() and np.array_equal(one, whole[: len(one)])
            else:
                assert np.array_equal(np.concatenate([second, one]), whole)
        assert np.mean(labels) == pytest.approx(0.5, abs=0.07)


def test_the_tokens_of_a_word_are_hidden_together_or_not_at_all() -> None:
    tokenizer = train(TEXTS * 2, vocab_size=300)
    words = Words(tokenizer)
    ids = np.array(tokenizer.encode("She reads 炉火 books at night, Emil has 12 lamps."))
    numbers = words.numbers(ids)
    pieces = [tokenizer.decode(ids[numbers == n].tolist()) for n in range(numbers.max() + 1)]
    assert [p.strip() for p in pieces if p.strip().isalnum() and p.isascii()] == [
        "She", "reads", "books", "at", "night", "Emil", "has", "12", "lamps",
    ]  # fmt: skip
    noise = MaskedNoise(WIDTH, MASKED, MaskedConfig(whole_words=True, masked=1, random=0), words=words)
    seen = 0
    for seed in range(100):
        row = noise.row([Fragment(ids, True)], np.random.default_rng(seed))
        mask = row["mask"][1 : len(ids) + 1]
        for number in range(numbers.max() + 1):
            assert len(set(mask[numbers == number].tolist())) == 1
        seen += int(mask.sum())
    assert seen / (100 * len(ids)) == pytest.approx(0.3, abs=0.05)


def test_chinese_words_are_learned_from_the_corpus() -> None:
    lexicon = ["葡萄", "蝴蝶", "琵琶", "徘徊", "玻璃"]
    single = list("山水花草人天地风云日月星火木金土")
    random = np.random.default_rng(0)
    lines = [
        "".join(random.choice(lexicon) if random.random() < 0.015 else random.choice(single) for _ in range(20))
        for _ in range(400)
    ]
    characters = sorted(set("".join(lines)))
    tokenizer = train(["\n".join(characters)] * 3, vocab_size=400)  # one token a character, no longer ones
    words = Words(tokenizer)
    words.learn([np.array(tokenizer.encode("".join(lines)))])
    right = total = 0
    for line in lines:
        ids = np.array(tokenizer.encode(line))
        numbers = words.numbers(ids)
        found = {tokenizer.decode(ids[numbers == n].tolist()) for n in range(numbers.max() + 1)}
        total += sum(word in line for word in lexicon)
        right += sum(word in found for word in lexicon)
        assert found <= set(lexicon) | set(single)
    assert right == total > 80


def test_spans_have_the_share_and_mean_length_asked_for_and_can_be_put_back() -> None:
    config = SpanConfig(rate=0.15, mean=3)
    count = sentinels_needed(WIDTH, config)
    sentinels = np.arange(1000, 1000 + count)
    noise = SpanNoise(WIDTH, SpanFrame(sentinels, 2, 0, 0, {}), config)
    starts = np.zeros(500)
    for seed, row in enumerate(rows(noise, 200, 500)):
        read, written = row["ids"][row["segments"] == 1], row["targets"][row["decoder_segments"] == 1]
        assert np.array_equal(row["decoder_ids"][: len(written)], [0, *written[:-1]])
        spans = (read >= 1000).sum()
        assert spans == 25 and len(written) - spans - 1 == 75
        pieces = {int(part[0]): part[1:] for part in np.split(written[:-1], np.flatnonzero(written[:-1] >= 1000))[1:]}
        whole = np.concatenate([pieces[int(token)] if token >= 1000 else [token] for token in read[:-1]])
        assert np.array_equal(whole, text_of(500, seed).ids)
        assert read[-1] == written[-1] == 2 and list(read[read >= 1000]) == list(sentinels[:25])
        starts[np.flatnonzero(read >= 1000)[0]] += 1
    assert starts[1:60].sum() > 190


def test_the_mixture_has_all_kinds_and_every_row_fits() -> None:
    config = SpanConfig(mixture=True)
    sentinels = np.arange(1000, 1000 + sentinels_needed(WIDTH, config))
    noise = SpanNoise(WIDTH, SpanFrame(sentinels, 2, 0, 0, {"R": 5, "S": 6, "X": 7}), config)
    found = rows(noise, 300, 300)
    kinds = [int(row["ids"][0]) for row in found]
    for token, kind in ((5, "R"), (6, "S"), (7, "X")):
        assert kinds.count(token) / 300 == pytest.approx(sum(way.kind == kind for way in UL2) / len(UL2), abs=0.08)
    for row in found:
        if row["ids"][0] == 6:  # one span, and it is the end
            read = row["ids"][row["segments"] == 1]
            assert (read >= 1000).sum() == 1 and read[-2] >= 1000


def test_infilling_leaves_out_poisson_spans_and_writes_the_whole_text() -> None:
    ends = np.zeros(1000, bool)
    frame = InfillingFrame(first=1, end=2, mask=3, pad=0, start=2, sentence_ends=ends)
    noise = InfillingNoise(WIDTH, frame, InfillingConfig(permute=0))
    kept, masks = [], []
    for seed, row in enumerate(rows(noise, 300, 500)):
        ids = text_of(500, seed).ids
        read, written = row["ids"][row["segments"] == 1], row["targets"][row["decoder_segments"] == 1]
        assert np.array_equal(written, [1, *ids, 2]) and row["decoder_ids"][0] == 2
        assert len(read) <= len(written)
        kept.append(int((read >= 100).sum()))
        masks.append(int((read == 3).sum()))
    assert np.mean(kept) == pytest.approx(350, abs=0.5)
    assert np.mean(masks) == pytest.approx(150 / 3, abs=1.5)


def test_sentences_change_places_as_wholes() -> None:
    ends = np.zeros(1000, bool)
    ends[[200, 300]] = True
    frame = InfillingFrame(first=1, end=2, mask=3, pad=0, start=2, sentence_ends=ends)
    noise = InfillingNoise(WIDTH, frame, InfillingConfig(rate=1e-9))
    ids = np.array([101, 102, 200, 103, 300, 104, 105, 106, 200])
    orders = set()
    for seed in range(60):
        row = noise.row([Fragment(ids, True)], np.random.default_rng(seed))
        read = tuple(row["ids"][row["segments"] == 1][1:-1].tolist())
        assert read.index(102) == read.index(101) + 1 and read[read.index(103) + 1] == 300
        orders.add(read)
    assert len(orders) == 6


def test_a_prefix_ends_before_what_is_written_and_nothing_is_lost() -> None:
    frame = PrefixFrame(gap=4, mask=3, begin=5, end=2, pad=0)
    noise, middles = PrefixNoise(WIDTH, frame, PrefixConfig(middle=0.5)), 0
    for seed, row in enumerate(rows(noise, 1200, 100)):
        text, mask = row["ids"][row["segments"] == 1], row["mask"][row["segments"] == 1]
        begin = int(np.flatnonzero(text == 5)[0])
        assert mask[: begin + 1].sum() == 0 and mask[begin + 1 :].all() and text[-1] == 2
        middle = 3 in text
        middles += middle
        gap = int(np.flatnonzero(text == (3 if middle else 4))[0])
        whole = np.concatenate([text[:gap], text[begin + 1 : -1], text[gap + 1 : begin]])
        assert np.array_equal(whole, text_of(100, seed).ids)
    assert middles / 1200 == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("split", ["characters", "tokens"])
def test_a_rearranged_text_is_the_same_text_in_another_order(split: str, given: dict[str, str]) -> None:
    tokenizer = Tokenizer.load(given["tokenizer"])
    frame = FimFrame(prefix=1001, suffix=1002, middle=1003, end=tokenizer.eos_id, pad=tokenizer.pad_id)
    noise = FimNoise(WIDTH, frame, FimConfig(rate=0.5, split=split), tokenizer)  # type: ignore[arg-type]
    text = TEXTS[7]
    ids = np.array(tokenizer.encode(text))
    borders = {len(tokenizer.decode(ids[:n].tolist())) for n in range(len(ids) + 1)}
    plain = spm = inside = 0
    for seed in range(400):
        row = noise.row([Fragment(ids, True)], np.random.default_rng(seed))
        found, mask = row["ids"][row["segments"] == 1], row["mask"][row["segments"] == 1]
        assert found[-1] == tokenizer.eos_id
        if found[0] != 1001:
            plain += 1
            assert np.array_equal(found[:-1], ids) and mask.all()
            continue
        assert np.array_equal(mask == 0, found > 1000)
        suffix, middle = (int(np.flatnonzero(found == mark)[0]) for mark in (1002, 1003))
        spm += suffix == 1 and middle < len(found) - 2
        parts = [tokenizer.decode(part.tolist()) for part in (found[1:suffix], found[middle + 1 : -1],
                                                              found[suffix + 1 : middle])]  # fmt: skip
        assert "".join(parts) == text
        inside += len(parts[0]) not in borders
    assert plain / 400 == pytest.approx(0.5, abs=0.08)
    assert spm / (400 - plain) == pytest.approx(0.5, abs=0.1)
    assert (inside > 50) == (split == "characters")


def test_every_token_of_every_document_stands_in_one_row_of_an_epoch(given: dict[str, str]) -> None:
    tokenizer = Tokenizer.load(given["tokenizer"])
    for width in (40, 200):
        noise = MaskedNoise(width, MASKED, MaskedConfig())
        source = FragmentRows(Path(given["shards"]) / "train", noise, seed=1)
        for epoch in range(2):
            texts, part = [], ""
            for row in range(source.count(epoch)):
                fragments = source.fragments((epoch, row))
                assert sum(len(fragment.ids) + 2 for fragment in fragments) <= width
                for fragment in fragments:
                    part += "".join(map(chr, fragment.ids))
                    if fragment.ends:
                        texts.append(tokenizer.decode([*map(ord, part)]))
                        part = ""
            assert sorted(texts) == sorted(TEXTS) and not part


def test_new_special_tokens_take_reserved_places_and_move_no_id(given: dict[str, str], tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(given["tokenizer"])
    some = extend(tokenizer, ["[CLS]", "[MASK]"], roles={"mask_token": "[MASK]"}, framed=(["[CLS]"], []))
    assert some.vocab_size == tokenizer.vocab_size and some.token_id("[MASK]") in some.special_ids
    many = extend(tokenizer, [f"<extra_id_{i}>" for i in range(20)])
    assert many.vocab_size == tokenizer.vocab_size + 8
    for other in (some, many):
        assert [other.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]
        assert other.fingerprint != tokenizer.fingerprint
        assert text_fingerprint(other) == text_fingerprint(tokenizer)
    some.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.encode("Ann", framed=True) == [some.token_id("[CLS]"), *tokenizer.encode("Ann")]
    assert again.template_tokens["mask_token"] == "[MASK]"
    assert extend(again, ["[MASK]"]).fingerprint == again.fingerprint
