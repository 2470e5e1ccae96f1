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
