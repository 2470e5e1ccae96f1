"""What is measured of a compressed model: passages, divergence from the original, intervals, size, memory, speed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from luhuo.compress.measures import intervals, memory, passages, quality, size, speed
from luhuo.compress.measures.other_work import OtherWork
from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.evaluation.compression_stages import CompressionMeasureStage
from luhuo.model.load import load_decoder
from luhuo.model.quantised import quantise_model
from luhuo.model.save import save
from tests.compression_cases import model_folder, sentence, write_texts
from tests.small_chat import small_model, small_tokenizer

TOKENIZER = small_tokenizer()


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("texts") / "texts.jsonl")


@pytest.fixture(scope="module")
def chosen(texts: Path) -> list[passages.Passage]:
    return passages.select(texts, TOKENIZER, tokens=2000, length=64)


def test_each_language_gives_as_many_tokens_and_no_passage_is_too_long(chosen: list[passages.Passage]) -> None:
    counts = {"en": 0, "zh": 0}
    for passage in chosen:
        count = len(TOKENIZER.encode(passage.text))
        assert 0 < count <= 64
        counts[passage.lang] += count
    assert all(1000 <= count < 1000 + 64 for count in counts.values())


def test_passages_are_parts_of_their_document_and_do_not_overlap(texts: Path) -> None:
    documents = {row["id"]: row["text"] for row in map(json.loads, texts.read_text(encoding="utf-8").splitlines())}
    found = passages.select(texts, TOKENIZER, tokens=100_000, length=64)
    for name, text in documents.items():
        parts = [passage.text for passage in found if passage.document == name]
        assert all(part in text for part in parts)
        assert sum(map(len, parts)) == len(text)


def test_the_choice_depends_on_the_texts_and_not_on_their_order(texts: Path, tmp_path: Path) -> None:
    lines = texts.read_text(encoding="utf-8").splitlines()
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join(reversed(lines)), encoding="utf-8")
    first, second = (passages.select(path, TOKENIZER, tokens=600, length=64) for path in (texts, other))
    assert first == second
    assert first != passages.select(texts, TOKENIZER, tokens=600, length=64, seed=1)


def test_the_test_split_of_a_corpus_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    write_texts(folder / "train.jsonl", seed=1)
    write_texts(folder / "test.jsonl", seed=2)
    assert passages.select(tmp_path, TOKENIZER, tokens=600, length=64) == passages.select(
        folder / "test.jsonl", TOKENIZER, tokens=600, length=64
    )


def test_the_language_of_plain_text_is_told_by_its_script(tmp_path: Path) -> None:
    import random

    for lang in ("en", "zh"):
        text = "".join(sentence(lang, random.Random(3)) for _ in range(60))
        (tmp_path / f"{lang}.txt").write_text(text, encoding="utf-8")
    found = passages.select(tmp_path, TOKENIZER, tokens=1200, length=64)
    assert {passage.lang for passage in found} == {"en", "zh"}


def test_too_short_a_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("hello world", encoding="utf-8")
    with pytest.raises(LuhuoError) as caught:
        passages.select(tmp_path / "short.txt", TOKENIZER, tokens=1000, length=64)
    assert "at least 512 tokens" in str(caught.value) and "short.txt" in str(caught.value)


def test_an_original_is_no_step_away_from_itself(chosen: list[passages.Passage]) -> None:
    original = quality.read_original(small_model(), chosen)
    found = quality.figures(quality.compare(small_model(), original), original)
    assert found["all"]["loss"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert found["all"]["kl"]["mean"] == 0.0 and found["all"]["kl_tail"] == 0.0
    assert found["all"]["agreement"]["mean"] == 1.0
    assert found["all"]["perplexity"] == found["all"]["original_perplexity"]


def test_figures_are_those_of_the_definitions_passage_by_passage(chosen: list[passages.Passage]) -> None:
    """Against one passage at a time in float64: no batches, no padding, no chunks."""
    few = small_model()
    with torch.no_grad():
        few.blocks[1].get_parameter("mlp.down.weight").mul_(0.8)
    original = quality.read_original(small_model(), chosen)
    found = quality.figures(quality.compare(few, original), original)["all"]
    whole, nats, before, kl, same, count = small_model(), 0.0, 0.0, 0.0, 0, 0
    for passage in chosen:
        ids = torch.tensor([[*TOKENIZER.encode_prompt(""), *TOKENIZER.encode(passage.text)]])
        with torch.inference_mode():
            p, q = (model(ids[:, :-1])[0].double().log_softmax(-1) for model in (whole, few))
        targets = ids[0, 1:, None]
        nats -= float(q.gather(-1, targets).sum())
        before -= float(p.gather(-1, targets).sum())
        kl += float((p.exp() * (p - q)).sum())
        same += int((p.argmax(-1) == q.argmax(-1)).sum())
        count += len(targets)
    assert found["tokens"] == count
    assert found["perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-4)
    assert found["loss"]["mean"] == pytest.approx(math.exp((nats - before) / count) - 1, abs=1e-4)
    assert found["kl"]["mean"] == pytest.approx(kl / count, rel=1e-3)
    assert found["agreement"]["mean"] == pytest.approx(same / count, abs=2 / count)
    assert found["loss"]["low"] < found["loss"]["mean"] < found["loss"]["high"]


def test_fewer_bits_diverge_more(chosen: list[passages.Passage]) -> None:
    original = quality.read_original(small_model(), chosen)
    diverged = []
    for scheme in ("int8", "int4"):
        few = small_model()
        quantise_model(few, scheme)
        diverged.append(quality.figures(quality.compare(few, original), original)["all"])
    assert 0 < diverged[0]["kl"]["mean"] < diverged[1]["kl"]["mean"]
    assert diverged[0]["kl_tail"] < diverged[1]["kl_tail"]
    assert diverged[0]["agreement"]["mean"] > diverged[1]["agreement"]["mean"]


def test_with_another_tokenizer_losses_of_whole_passages_are_compared(chosen: list[passages.Passage]) -> None:
    """Byte by byte: the same text in more tokens; perplexity stays per token of the original's."""
    import tokenizers

    from luhuo.tokenizer.tokenizer import Tokenizer

    core = json.loads(TOKENIZER._core.to_str())
    core["model"]["merges"] = []
    other = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(core)), TOKENIZER._config, None)
    original = quality.read_original(small_model(), chosen)
    model = small_model()
    model.tokenizer = other
    found = quality.figures(quality.compare(model, original), original)["all"]
    assert found["kl"] is None and found["agreement"] is None and found["kl_tail"] is None
    nats, count = 0.0, sum(len(TOKENIZER.encode(passage.text)) for passage in chosen)
    for passage in chosen:
        ids = torch.tensor([[*other.encode_prompt(""), *other.encode(passage.text)]])
        with torch.inference_mode():
            q = small_model()(ids[:, :-1])[0].double().log_softmax(-1)
        nats -= float(q.gather(-1, ids[0, 1:, None]).sum())
    assert found["tokens"] == count
    assert found["perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-4)


def test_a_model_that_gives_no_numbers_has_no_loss(chosen: list[passages.Passage]) -> None:
    original = quality.read_original(small_model(), chosen)
    broken = small_model()
    with torch.no_grad():
        broken.blocks[0].get_parameter("mlp.down.weight").fill_(math.nan)
    found = quality.figures(quality.compare(broken, original), original)["all"]
    assert found["loss"] is None and found["kl"] is None and found["perplexity"] is None
    json.dumps(found, allow_nan=False)


def test_the_interval_draws_documents_and_not_passages() -> None:
    """A document copied ten times says nothing new: its interval must not shrink by √10."""
    chance = np.random.default_rng(0)
    values, weights = chance.normal(1, 0.3, 20), np.ones(20)
    once = intervals.rate(values, weights, np.arange(20), 0)
    copied = intervals.rate(np.tile(values, 10), np.tile(weights, 10), np.tile(np.arange(20), 10), 0)
    assert (copied.mean, copied.low, copied.high) == pytest.approx((once.mean, once.low, once.high))
    apart = intervals.rate(np.tile(values, 10), np.tile(weights, 10), np.arange(200), 0)
    assert apart.high - apart.low < 0.5 * (once.high - once.low)


def test_the_interval_of_a_rate_covers_it_as_often_as_it_says() -> None:
    chance = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        weights = chance.integers(50, 500, 60).astype(float)
        found = intervals.rate(weights * chance.normal(0.02, 0.05, 60), weights, np.arange(60), trial)
        covered += found.low <= 0.02 <= found.high
    assert 178 <= covered <= 199


def test_few_documents_are_drawn_by_passage() -> None:
    assert intervals.units_of(["novel"] * 30)[0] == "passages"
    name, units = intervals.units_of([f"d{i // 2}" for i in range(30)])
    assert name == "documents" and units.max() == 14


def test_a_token_reads_all_matrices_and_only_a_row_of_an_embedding_that_is_no_head(tmp_path: Path) -> None:
    tied, free = small_model(), small_model(tie_embeddings=False)
    assert size.read_per_token(tied) == 4 * sum(p.numel() for p in tied.parameters())
    assert size.read_per_token(free) == 4 * (sum(p.numel() for p in free.parameters()) - free.embedding.numel())
    save(tied, tmp_path)
    everything, weights = size.disk_bytes(tmp_path)
    assert weights == (tmp_path / "model.safetensors").stat().st_size < everything
    quantise_model(tied, "int4")
    assert size.read_per_token(tied) < 0.4 * size.read_per_token(small_model())


def test_models_are_timed_in_turn_with_the_first(chosen: list[passages.Passage]) -> None:
    few = small_model()
    quantise_model(few, "int8")
    found = speed.speeds({"original": small_model(), "model": few}, prompt=16, new=4, turns=3)
    assert found.models["original"].decode_ratios == [1.0] * 3 == found.models["original"].prefill_ratios
    assert len(found.models["model"].decode_ratios) == 3
    assert all(rate > 0 for one in found.models.values() for rate in (one.prefill, one.decode))
    assert found.prompt == 16 and found.new == 4 and found.drift >= 1


def test_prompts_are_as_short_as_the_context() -> None:
    found = speed.speeds({"original": small_model(max_positions=24)}, turns=1)
    assert found.prompt + 2 <= 24 and found.new + 10 <= 24


def test_other_work_counts_what_this_process_did_not_do() -> None:
    with OtherWork() as work:
        for _ in range(50):
            _ = torch.randn(64, 64) @ torch.randn(64, 64)
    assert work.share is None or 0 <= work.share <= 1
    work.share, work.drift = 0.5, 1.0
    assert work.noticed
    work.share, work.drift = None, 2.0
    assert work.noticed
    work.share, work.drift = 0.0, 1.0
    assert not work.noticed


def test_peak_memory_is_that_of_the_process_that_uses_the_model(tmp_path: Path) -> None:
    """And not of the one that asks, which holds far more here."""
    ballast = torch.ones(300_000_000)
    folder = model_folder(tmp_path / "model")
    found = memory.peak_memory(folder)
    assert 0 < found["process"] <= found["loading"] <= found["writing"] < ballast.nbytes


def test_a_model_that_cannot_be_used_is_told_of_with_the_process_s_words(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(LuhuoError) as caught:
        memory.peak_memory(folder)
    assert "exit status 1" in str(caught.value) and str(folder) in str(caught.value)


def test_the_stage_measures_a_model_beside_its_original(texts: Path, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    save(load_decoder(folder, "int4"), tmp_path / "few")
    values = {"model": str(tmp_path / "few"), "original": str(folder), "text": str(texts), "tokens": 1000}
    stage = CompressionMeasureStage.parse(values | {"length": 64, "turns": 1, "memory": False})
    done = produce("compression-measure", stage, tmp_path / "out")
    found = json.loads((done.path / "measures.json").read_text(encoding="utf-8"))
    results = done.manifest["metrics"]
    assert results["loss"] == found["all"]["loss"]["mean"] and results["loss.low"] <= results["loss"]
    assert results["kl"] > 0 and 0 < results["agreement"] < 1
    assert set(found["languages"]) == {"en", "zh"} and results["bytes"] == found["size"]["directory"]
    timed = json.loads((done.path / "watch/speed.json").read_text(encoding="utf-8"))
    assert len(timed["speed"]["models"]["model"]["decode_ratios"]) == 1 and results["decode"] > 0
    again = produce("compression-measure", stage, tmp_path / "again")
    assert again.manifest["digest"] == done.manifest["digest"]  # times are no part of the result
