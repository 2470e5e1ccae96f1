"""The stages of preference optimisation: they learn what was preferred, resume exactly, and account for every row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from luhuo.align.preference.comments import findings
from luhuo.align.preference.judged import mismatched
from luhuo.align.preference.pairs import prepare_pairs
from luhuo.align.preference.reference import weights_digest
from luhuo.align.preference.rendering import PROMPT, Prepared
from luhuo.core.artifact import Done, produce
from luhuo.core.digest import path_digest
from luhuo.core.errors import Interrupted, LuhuoError
from luhuo.core.metrics import MetricsLog
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.render import render
from luhuo.model.load import load
from luhuo.model.save import save
from luhuo.stages import STAGES, configured
from luhuo.train.trainer import Trainer
from tests.small_chat import small_model, small_tokenizer, with_template

QUESTIONS = ["hello", "你好", "how are you", "苹果", "what is 42", "天气"]


def pair(question: str, number: int = 0) -> dict[str, Any]:
    return {"prompt": question, "chosen": f"world {number}", "rejected": "很好，世界"}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    save(small_model(opinionated=False), tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "pairs.jsonl", [pair(question, i) for i, question in enumerate(QUESTIONS)])


def run(name: str, base: Path, data: Path, target: Path, **changes: Any) -> Done:
    settings = {"model": str(base), "data": str(data), "steps": 10, "batch": 4, "learning_rate": 3e-3}
    settings |= {"dtype": "fp32", "device": "cpu", "threads": 1, "checkpoint_every_s": 0}
    return produce(name, configured(name, settings | changes), target)


def lines(done: Done) -> list[dict[str, Any]]:
    return MetricsLog(done.path / "metrics.jsonl").read()


@pytest.mark.parametrize("name", ["dpo", "kto", "orpo", "simpo", "cpo"])
def test_what_was_preferred_gains_on_what_was_rejected(name: str, base: Path, data: Path, tmp_path: Path) -> None:
    before = path_digest(base)
    done = run(name, base, data, tmp_path / name, valid=str(data))
    told = lines(done)
    first, last = (told[place]["log_probs.chosen"] - told[place]["log_probs.rejected"] for place in (0, -2))
    assert last > first + 0.5
    assert told[-2]["rewards.margin"] > told[0]["rewards.margin"]
    assert "valid.accuracy" in done.manifest["metrics"] and done.manifest["metrics"]["units"] >= 6
    assert path_digest(base) == before
    assert load(done.path, dtype="fp32", device="cpu").tokenizer is not None
    assert not [file for file in done.path.iterdir() if file.name == ".checkpoint"]


def test_rrhf_orders_answers_by_their_scores(base: Path, tmp_path: Path) -> None:
    rows = [{"prompt": q, "answers": ["很好", "42", "hello"], "scores": [0.9, 0.1, 0.5]} for q in QUESTIONS]
    done = run("rrhf", base, write(tmp_path / "ranked.jsonl", rows), tmp_path / "rrhf", steps=15)
    told = lines(done)
    assert told[-1]["ranking"] < told[0]["ranking"] and told[-1]["accuracy"] > 0.9


@pytest.mark.parametrize("name", ["dpo", "kto"])
@pytest.mark.parametrize("reference", ["ahead", "live"])
def test_a_run_that_is_cut_off_ends_with_the_same_bits(
    name: str, reference: str, base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"steps": 6, "reference_log_probs": reference}
    whole = run(name, base, data, tmp_path / "whole", **options)
    step = Trainer._step

    def interrupted(self: Trainer, batch: Any) -> Any:
        metrics = step(self, batch)
        self.stop.asked = self.step == 3
        return metrics

    monkeypatch.setattr(Trainer, "_step", interrupted)
    with pytest.raises(Interrupted):
        run(name, base, data, tmp_path / "cut", **options)
    monkeypatch.undo()
    cut = run(name, base, data, tmp_path / "cut", **options)
    ours, theirs = (load_file(done.path / "model.safetensors") for done in (whole, cut))
    assert all(torch.equal(ours[tensor], theirs[tensor]) for tensor in ours)
    assert [row["loss"] for row in lines(whole)] == [row["loss"] for row in lines(cut)]


def test_an_adapter_is_its_own_reference_ahead_or_live(base: Path, data: Path, tmp_path: Path) -> None:
    adapter = {"method": "lora", "rank": 4}
    found = []
    for reference in ("ahead", "live"):
        done = run("dpo", base, data, tmp_path / reference, adapter=adapter, reference_log_probs=reference)
        assert lines(done)[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
        assert lines(done)[-1]["loss"] < 0.6
        found.append(load_file(next(done.path.glob("adapter_model.safetensors"))))
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-4) for name in found[0])


def test_with_shuffled_labels_half_of_the_pairs_are_exchanged(tmp_path: Path) -> None:
    data = write(tmp_path / "x.jsonl", [pair(f"hello {i}", i) for i in range(60)])
    plain, shuffled = (prepared_of(data, shuffle_seed=seed) for seed in (None, 7))
    same = [
        list(plain.units.store.get(2 * k)[0]) == list(shuffled.units.store.get(2 * k)[0])
        for k in range(len(plain.units))
    ]
    assert 18 <= sum(same) <= 42
    assert shuffled.units.store.lengths().sum() == plain.units.store.lengths().sum()


def prepared_of(data: Path, limit: int = 200, tokenizer: Any = None, **options: Any) -> Prepared:
    rules: dict[str, Any] = {"overlong": "truncate", "quarantine": lambda row: None}
    return prepare_pairs([data], tokenizer or small_tokenizer(), limit, **rules | options)


def test_a_pair_has_the_prompt_that_generation_starts_from_and_ends_with_the_end_of_its_turn(tmp_path: Path) -> None:
    prompt = [{"role": "system", "content": "苹果"}, {"role": "user", "content": "<|im_end|> 42"}]
    rows = [{"prompt": prompt, "chosen": "world", "rejected": "很"}]
    prepared = prepared_of(write(tmp_path / "x.jsonl", rows))
    opening = render(Conversation.of(prompt), small_tokenizer(), generation_prompt=True).ids
    for number, text in enumerate(("world", "很")):
        ids, mask = (list(part) for part in prepared.units.store.get(number)[:2])
        assert ids[: len(opening)] == opening and not any(mask[: len(opening)])
        assert all(mask[len(opening) :])
        end = small_tokenizer().end_of_turn_id
        assert ids[-1] == end and ids[len(opening) :].count(end) == 1
        assert small_tokenizer().decode(ids[len(opening) : -1]) == text


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    turns = [{"role": role, "content": "hello world " * 3} for role in ("user", "assistant", "user")]
    rows = [
        pair("hello"),
        {"prompt": turns, "chosen": "world", "rejected": "很"},
        {"prompt": "hello", "chosen": "hello " * 90, "rejected": "很"},
        {"prompt": "hello", "chosen": "same", "rejected": "same"},
        {"prompt": "hello", "chosen": 3, "rejected": None},
    ]
    seen: list[Any] = []
    prepared = prepared_of(write(tmp_path / "x.jsonl", rows), limit=60, quarantine=seen.append)
    counts = prepared.counts
    assert (counts["used"], counts["truncated"], counts["too_long"], counts["broken"]) == (2, 1, 1, 2)
    assert len(seen) == 3 and len(prepared.units) == 2
    assert prepared.units.store.lengths().max() <= 60
    dropped = prepared_of(tmp_path / "x.jsonl", limit=60, overlong="drop")
    assert dropped.counts["used"] == 1 and dropped.counts["too_long"] == 2


def test_a_template_that_writes_the_prompt_differently_for_each_answer_is_noticed(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>"
        "{% endgeneration %}{% else %}{{ messages | length }} {{ m.content }}: {% endif %}{% endfor %}"
    )
    prepared = prepared_of(write(tmp_path / "x.jsonl", [pair("hello")]), tokenizer=with_template(template))
    assert prepared.counts["prompt_differs"] == 1 and len(prepared.units) == 0


def test_the_prompt_of_the_chosen_answer_is_marked_where_it_is_to_be_learned(tmp_path: Path) -> None:
    prepared = prepared_of(write(tmp_path / "x.jsonl", [pair("hello")]), learn_prompt=True)
    chosen, rejected = (prepared.units.store.get(number)[1] for number in (0, 1))
    assert chosen[0] == PROMPT and chosen[-1] == 1
    assert set(rejected.tolist()) == {0, 1}


def test_margins_of_the_data_reach_the_loss(tmp_path: Path) -> None:
    rows = [pair("hello") | {"score_chosen": 0.9, "score_rejected": 0.4}, pair("42")]
    numbers = prepared_of(write(tmp_path / "x.jsonl", rows)).units.numbers["margin"]
    assert numbers.tolist() == pytest.approx([0.5, 0.5, 0.0, 0.0])


def test_answers_for_the_baseline_belong_to_another_prompt(tmp_path: Path) -> None:
    rows = [pair(question) | {"chosen": f"world {i}"} for i, question in enumerate(QUESTIONS)]
    store = prepared_of(write(tmp_path / "x.jsonl", rows)).units.store
    from luhuo.dialogue.render import Rendered

    answers = [Rendered(list(map(int, store.get(k)[0])), list(map(int, store.get(k)[1]))) for k in range(len(store))]
    others = mismatched(answers, 200, seed=0)
    assert len(others) == len(answers)
    for number, own in enumerate(answers):
        ids, mask = (list(part) for part in others.get(number)[:2])
        start = own.mask.index(1)
        assert ids[:start] == own.ids[:start] and mask[start] == 1 and not any(mask[:start])
    assert any(list(others.get(k)[0]) != answers[k].ids for k in range(len(answers)))


def test_bad_settings_and_data_are_refused_in_plain_words(base: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="label_smoothing has no effect"):
        configured("dpo", {"model": str(base), "data": str(data), "loss": "hinge", "label_smoothing": 0.1})
    single = write(tmp_path / "single.jsonl", [{"prompt": "a", "completion": "b", "label": True}] * 3)
    with pytest.raises(LuhuoError, match="KTO"):
        run("dpo", base, single, tmp_path / "one")
    with pytest.raises(LuhuoError, match="same label"):
        run("kto", base, single, tmp_path / "two")
    with pytest.raises(LuhuoError, match="row") as caught:
        run("dpo", base, data, tmp_path / "three", length=16)
    assert caught.value.where == "length"


def test_a_falling_probability_of_the_chosen_answers_is_explained() -> None:
    def told(chosen: float, rejected: float) -> list[str]:
        row = {"accuracy": 0.8}
        start = [{"log_probs.chosen": -10.0, "log_probs.rejected": -12.0} | row] * 5
        return findings([*start, *([{"log_probs.chosen": chosen, "log_probs.rejected": rejected} | row] * 5)])

    assert "usual" in told(-14.0, -30.0)[0]
    assert "not learned" in told(-14.0, -13.0)[0]
    assert told(-9.0, -14.0) == []


def test_the_weights_digest_tells_models_apart() -> None:
    model = small_model()
    before = weights_digest(model)
    assert weights_digest(small_model()) == before
    with torch.no_grad():
        model.embedding[3, 3] += 1e-3
    assert weights_digest(model) != before


def test_every_stage_of_preferences_is_listed() -> None:
    assert {"dpo", "kto", "orpo", "simpo", "cpo", "rrhf", "online-dpo", "rejection"} <= STAGES.keys()
