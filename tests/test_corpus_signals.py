"""Signals: the fast ones give what the published rules say, whatever else is in the batch."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path

import pytest

from luhuo.core.errors import LuhuoError
from luhuo.corpus import signals
from luhuo.corpus.normalise import normalise
from luhuo.corpus.signals.batch import Batch
from luhuo.corpus.signals.phrases import Phrases, compiled, lexicon
from tests import slow_signals

DATA = Path(os.environ.get("LUHUO_TEST_DATA", "/nonexistent"))
REFERENCES = {
    "gopher": lambda text, _: slow_signals.gopher(text),
    "c4": lambda text, _: slow_signals.c4(text),
    "fineweb": lambda text, _: slow_signals.fineweb(text),
    "chinese": lambda text, _: slow_signals.chinese(text),
    "repetition": slow_signals.repetition,
}
ODD = [
    "",
    "\n\n",
    "a",
    "。",
    "...",
    "x ... y\nz…",
    "A a A a A a A a A a A a",
    "one two three four five six seven eight nine ten eleven " * 5,
    "- a\n- b\n* c\nd",
    "The THE the\nthe the",
    "İstanbul’da İki JavaScript is needed. Please use cookies!",
    "\ud800 lone",
    "# a\n\n# a\n\n\n# b",
    "word" * 500,
    'He said "no." She said (yes.) Lorem ipsum! {x}{y}',
    "人之初，性本善。性相近，习相远。人之初，性本善。性相近，习相远。",
    "用 Python3 写 Python3 写 Python3 写代码。\n“你好。”\n（完）",
    "カタカナとひらがな、々",
    "tabs\there\u3000and\u00a0blanks",
]


def _rows(name: str, field: str, count: int) -> list[str]:
    if not (DATA / name).is_file():
        pytest.skip("LUHUO_TEST_DATA does not say where the real text is")
    with gzip.open(DATA / name, "rt", encoding="utf-8") as handle:
        return [normalise(json.loads(line)[field]) for _, line in zip(range(count), handle, strict=False)]


def _check(texts: list[str], lang: str) -> None:
    for family in signals.families(lang):
        if family not in REFERENCES:
            continue
        for text, row in zip(texts, signals.measure(texts, lang, [family]), strict=True):
            wanted = REFERENCES[family](text, lang)
            found = {name.removeprefix(f"{family}."): value for name, value in row.items()}
            assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=6e-5), (family, text[:80])


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_odd_texts_have_the_values_of_the_plain_rules(lang: str) -> None:
    _check(ODD, lang)


def test_random_texts_of_few_words_have_the_values_of_the_plain_rules() -> None:
    rng = random.Random(1)
    marks = ["the", "of", "cat", "cat", "Sat.", "runs", "#", "...", "-", "\n", "\n\n", "1", "“so”"]
    _check([" ".join(rng.choices(marks, k=rng.randint(1, 120))) for _ in range(300)], "en")
    signs = ["的", "猫", "猫", "在", "山", "，", "。", "\n", "ab", " ", "7", "」", "之"]
    _check(["".join(rng.choices(signs, k=rng.randint(1, 150))) for _ in range(300)], "zh")


def test_real_english_has_the_values_of_the_plain_rules() -> None:
    _check(
        _rows("cranfield/corpus.jsonl.gz", "text", 80) + _rows("summarisation/dialogsum_dev.jsonl.gz", "dialogue", 80),
        "en",
    )


def test_real_chinese_has_the_values_of_the_plain_rules() -> None:
    _check(_rows("zh_docs/docs.jsonl.gz", "text", 12) + _rows("zh_laws/laws.jsonl.gz", "text", 40), "zh")


@pytest.mark.parametrize("lang", ["en", "zh", "ja", "de"])
def test_a_value_depends_on_its_text_alone(lang: str) -> None:
    texts = [text * (1 + i % 3) for i, text in enumerate(ODD * 4)]
    together = signals.measure(texts, lang)
    order = list(range(len(texts)))
    random.Random(2).shuffle(order)
    shuffled = signals.measure([texts[i] for i in order], lang)
    assert [together[i] for i in order] == shuffled
    assert together == [signals.measure([text], lang)[0] for text in texts]


def test_more_texts_than_a_key_has_room_for_are_measured_alike() -> None:
    texts = ["a b a b a b", "c d"] * 35_000
    one, two = signals.measure(texts[:2], "en", ["repetition"])
    assert signals.measure(texts, "en", ["repetition"]) == [one, two] * 35_000


def test_a_chunk_border_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = signals.measure(ODD, "zh")
    monkeypatch.setattr(signals, "CHUNK", 40)
    assert signals.measure(ODD, "zh") == whole


def test_a_text_of_any_length_is_measured_and_only_its_beginning_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "LONGEST", 100)
    assert signals.measure(["word " * 1000], "en") == signals.measure(["word " * 20], "en")


def test_values_are_numbers_of_four_decimals_and_names_are_family_dot_name() -> None:
    row = signals.measure(["Ten words in a row, and then some more of them."], "en")[0]
    assert all(isinstance(value, int | float) and value == round(value, 4) for value in row.values())
    assert {name.partition(".")[0] for name in row} == set(signals.families("en"))
    assert json.loads(json.dumps(row)) == row


def test_only_chosen_families_are_measured() -> None:
    assert {name.partition(".")[0] for name in signals.measure(["text"], "zh", ["shape", "chinese"])[0]} == {
        "shape",
        "chinese",
    }
    assert signals.measure(["text"], "zh", []) == [{}]
    assert signals.measure([], "zh") == []
    with pytest.raises(LuhuoError, match="gofer"):
        signals.measure(["text"], "en", ["gofer"])


def test_long_repetition_is_seen_beyond_gopher_by_thirteen_characters() -> None:
    clause = "本合同自双方签字盖章之日起生效"
    row = signals.measure([clause + "。" + clause + "。"], "zh", ["repetition"])[0]
    assert row["repetition.duplicate_13gram"] == 0.5
    assert signals.measure([clause], "zh", ["repetition"])[0]["repetition.duplicate_13gram"] == 0


def test_phrases_are_found_wherever_they_stand_and_only_as_whole_words() -> None:
    phrases = Phrases({"a": ["click here", "kill*", "cheap * online"], "b": ["关注公众号", "扫码", "icp备"]})
    texts = ["Click Here!", "unclick here", "click hereafter", "skill, killing", "cheap red hats online", "",
             "请关注公众号并扫码", "京ICP备1号", "cheap\nonline click here"]  # fmt: skip
    batch = Batch(texts, "en")
    spans, groups = phrases.find(batch)
    found = [
        (int(d), batch.lowered[s:e], int(g))
        for d, s, e, g in zip(spans.documents, spans.starts, spans.ends, groups, strict=True)
    ]
    assert found == [
        (0, "click here", 0), (3, "kill", 0), (4, "cheap red hats online", 0), (6, "关注公众号", 1), (6, "扫码", 1),
        (7, "icp备", 1), (8, "click here", 0),
    ]  # fmt: skip


def test_of_phrases_of_a_group_that_overlap_the_longer_one_counts_and_once() -> None:
    batch = Batch(["微信公众号公众号"], "zh")
    spans, _ = Phrases({"a": ["公众号", "微信公众号"]}).find(batch)
    assert [batch.joined[s:e] for s, e in zip(spans.starts, spans.ends, strict=True)] == ["微信公众号", "公众号"]


def test_a_phrase_too_short_to_look_for_is_refused() -> None:
    with pytest.raises(LuhuoError, match="too short"):
        Phrases({"a": ["ab * online"]})


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", ["boilerplate", "advertising", "harmful"])
def test_each_phrase_of_a_lexicon_finds_itself(name: str, lang: str) -> None:
    for group, words in lexicon(name)[lang].items():
        for word in words:
            text = word.replace("*", "")
            _, groups = compiled(name, lang).find(Batch([f"x {text} y"], lang))
            assert group in {compiled(name, lang).groups[g] for g in groups}, word
        assert len(set(words)) == len(words)


def test_shares_of_a_text_are_of_what_is_printed() -> None:
    row = signals.measure(["AB cd 12!\nhttps://a.b/c 和www.x.cn，。"], "zh", ["shape"])[0]
    visible = len("ABcd12!https://a.b/c和www.x.cn，。")
    assert row["shape.digits"] == round(2 / visible, 4)
    assert row["shape.links"] == round(len("https://a.b/cwww.x.cn") / visible, 4)
    assert row["shape.capitals"] == round(2 / len("ABcdhttpsabc和wwwxcn"), 4)
    assert row["shape.longest_line"] == len("https://a.b/c 和www.x.cn，。") and row["shape.lines"] == 2


def test_damage_is_a_share_of_the_damaged_characters() -> None:
    def one(text: str) -> dict[str, float]:
        return signals.measure([text], "zh", ["damage"])[0]

    assert one("你好\ufffd\ufffd")["damage.replacement"] == 0.5
    assert one("é à ü — “naïve café”")["damage.latin1"] == 0
    assert one("ä½\xa0å¥½")["damage.latin1"] > 0.8
    assert one("锟斤拷锟斤拷好好好好好好")["damage.gbk"] == 0.5
    assert one("烫手的烫烫烫烫")["damage.gbk"] == round(4 / 7, 4)
    assert one("\ue000a")["damage.private"] == 0.5
