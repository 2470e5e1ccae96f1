"""Rules: clean text of every kind is kept, planted junk is dropped for the right reason."""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from luhuo.core.errors import LuhuoError
from luhuo.corpus import rules, signals
from luhuo.corpus.normalise import language, normalise
from luhuo.world import dirty, facts
from luhuo.world.write import make_pages
from tests import planted_junk

DATA = os.environ.get("LUHUO_TEST_DATA", "")
KEPT = 0.97
MODELS = ("harmful.", "perplexity.", "quality.")
"""Families that are measured only with a trained model."""


def _broken(texts: list[str], lang: str) -> list[list[str]]:
    return [rules.broken(rules.load(lang), row) for row in signals.measure([normalise(t) for t in texts], lang)]


@pytest.fixture(scope="module")
def real() -> dict[str, tuple[str, list[str]]]:
    if not Path(DATA, "zh_laws").is_dir():
        pytest.skip("LUHUO_TEST_DATA does not say where the real text is")
    from bench.corpus_clean import sources

    return sources(Path(DATA))


@pytest.fixture(scope="module")
def planted() -> list[tuple[str, str, str]]:
    """(language, defect, text) of the world's dirty corpus."""
    wanted = make_pages(7, facts.build(0, "train"), 1e12, "dirty")
    rows, labels = dirty.corpus([next(wanted) for _ in range(1500)], [], random.Random(7))
    langs = [row["lang"] if row["lang"] != "mixed" else language(row["text"]) for row in rows]
    return [(lang, label["defect"], row["text"]) for lang, row, label in zip(langs, rows, labels, strict=True)]


def test_clean_text_of_every_source_is_kept(real: dict[str, tuple[str, list[str]]]) -> None:
    shares = {}
    for name, (lang, texts) in real.items():
        some = texts[:: max(1, len(texts) // 120)]
        shares[name] = sum(not reasons for reasons in _broken(some, lang)) / len(some)
    assert len(shares) == 14
    assert {name: share for name, share in shares.items() if share < KEPT} == {}


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_defects_of_the_dirty_world_are_dropped_and_nothing_else(
    planted: list[tuple[str, str, str]], lang: str
) -> None:
    rows = [(defect, text) for of, defect, text in planted if of == lang]
    bad = {"advertising": "advertising", "mojibake": "mojibake_latin1"}
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for (defect, _), reasons in zip(rows, _broken([text for _, text in rows], lang), strict=True):
        found[defect].update(reasons or ["kept"])
    for defect, reason in bad.items():
        texts = sum(of == defect for of, _ in rows)
        assert found[defect][reason] == texts, f"recall of {defect} in {lang}"
    dropped = {d: n - found[d]["kept"] for d in found if d not in bad and (n := sum(of == d for of, _ in rows))}
    assert dropped == dict.fromkeys(dropped, 0)


def test_traditional_script_is_flagged_and_not_dropped(planted: list[tuple[str, str, str]]) -> None:
    rows = [(defect, text) for lang, defect, text in planted if lang == "zh" and defect != "mojibake"]
    flags = rules.flags("zh")
    measured = signals.measure([text for _, text in rows], "zh", ["chinese"])
    told = [
        (defect, "traditional_script" in rules.broken(flags, row))
        for (defect, _), row in zip(rows, measured, strict=True)
    ]
    assert [defect for defect, flagged in told if flagged] == [d for d, _ in told if d == "traditional_script"]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_junk_planted_in_real_text_is_dropped_for_its_reason(
    real: dict[str, tuple[str, list[str]]], lang: str
) -> None:
    rng = random.Random(3)
    names = [name for name, (of, _) in real.items() if of == lang and name not in ("chinese_poetry", "zh_docs")]
    clean = [text for name in names for text in real[name][1][:25]]
    for kind, make in planted_junk.KINDS[lang].items():
        reasons = _broken([make(rng, lang, text) for text in clean if len(text) > 120], lang)
        right = sum(bool(set(why) & planted_junk.REASONS[kind]) for why in reasons) / len(reasons)
        assert right >= 0.95, f"{kind}: {right:.2f}, {Counter(r for why in reasons for r in why or ['kept'])}"


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_advertising_in_other_words_is_found(lang: str) -> None:
    reasons = _broken(list(planted_junk.ADVERTISING[lang]), lang)
    assert all("advertising" in why for why in reasons)


@pytest.mark.parametrize("lang", ["en", "zh", "other"])
def test_every_rule_is_about_a_signal_that_is_measured_and_speaks_both_languages(
    lang: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = signals.measure(["text"], lang)[0]
    english = rules.load(lang) | rules.flags(lang)
    monkeypatch.setenv("LUHUO_LANG", "zh")
    chinese = rules.load(lang) | rules.flags(lang)
    for name, rule in english.items():
        assert name == rule.signal and (name in measured or name.startswith(MODELS)), name
        assert (rule.source and rule.why.isascii() is False) or rule.why[0].isupper()
        assert not chinese[name].why.isascii() and chinese[name].why != rule.why
    assert len({rule.reason for rule in english.values()}) == len(english)


def test_a_language_without_rules_of_its_own_has_the_others_rules() -> None:
    assert rules.load("de") == rules.load("other") != rules.load("en")


def test_a_limit_is_allowed_and_a_signal_that_was_not_measured_breaks_nothing() -> None:
    table = {"a.b": rules.Rule("a.b", 1, 2, "code", "why")}
    assert [rules.broken(table, {"a.b": value}) for value in (0.9999, 1, 2, 2.0001)] == [["code"], [], [], ["code"]]
    assert rules.broken(table, {}) == []
    assert rules.Rule("a.b", None, 2, "code", "why").holds(-1e9)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rules: [", "not valid YAML"),
        ("[]", "not a file of rules"),
        ("rules: [{signal: a.b, reason: c, en: x, zh: y, source: z}]", "not complete"),
        ("rules: [{signal: a.b, max: high, reason: c, en: x, zh: y, source: z}]", "not complete"),
        ("rules: [{signal: a.b, max: 1, reason: c, en: x, zh: y, source: z, maximum: 2}]", "not complete"),
        (
            "rules: [{signal: a.b, max: 1, reason: c, en: x, zh: y, source: z}, "
            "{signal: a.b, max: 2, reason: d, en: x, zh: y, source: z}]",
            "Two rules",
        ),
    ],
)  # fmt: skip
def test_a_bad_rule_file_is_refused(text: str, told: str) -> None:
    with pytest.raises(LuhuoError, match=told):
        rules.parse(text, "rules.yaml")
