"""Seeing a run: metrics, progress, events, samples, held-out scores by group, trackers, batches made ahead."""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from time import time as now
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from luhuo.core.artifact import Workspace, produce
from luhuo.core.errors import Interrupted, LuhuoError
from luhuo.core.metrics import MetricsLog
from luhuo.core.progress import Progress, clock
from luhuo.corpus.loader import PackedLoader
from luhuo.corpus.shards import ShardWriter, document_groups, read_header
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.tokenizer.training import train as train_tokenizer
from luhuo.train import monitor, trackers
from luhuo.train.config import TrainerConfig
from luhuo.train.heldout import bits_per_byte
from luhuo.train.monitor import Smoothed
from luhuo.train.objective import CausalLM
from luhuo.train.prefetch import Prefetcher
from luhuo.train.samples import sampler
from luhuo.train.stages import PretrainStage
from luhuo.train.trainer import Trainer
from tests.test_model_decoder import CONFIG
from tests.test_train_experts import train as train_experts
from tests.test_train_trainer import SMALL, Poisoned, SmallLoader, make, same, train

ENGLISH = [f"{name} has {count} lamps and a book." for name in ("Ann", "Bo") for count in range(40)]
CHINESE = [f"{name}有{count}盏灯和一本书。" for name in ("安", "博") for count in range(40)]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tokenizer, and shards of two sources and two languages."""
    root = tmp_path_factory.mktemp("material")
    tokenizer = train_tokenizer([*ENGLISH, *CHINESE], vocab_size=300)
    tokenizer.save(root / "tokenizer")
    for split, part in (("train", slice(None, None, 2)), ("valid", slice(1, None, 2)), ("test", slice(1, None, 8))):
        writer = ShardWriter(root / "shards" / split, tokenizer, 1500)
        for lang, texts in (("en", ENGLISH), ("zh", CHINESE)):
            for text in texts[part]:
                document = {"text": text, "lang": lang, "source": "lamps" if "A" in text or "安" in text else "books"}
                writer.add(document, [*tokenizer.encode(text), tokenizer.eos_id])
        writer.close()
    return {"tokenizer": str(root / "tokenizer"), "shards": str(root / "shards")}


def stage(material: dict[str, str], **values: object) -> PretrainStage:
    small = {"size": "30k", "length": 32, "batch": 128, "steps": 6, "dtype": "fp32", "threads": 1, "device": "cpu"}
    return PretrainStage.parse({**material, **small, **values})


def rows_of(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return MetricsLog(folder / name).read()


# Metrics and events


def test_metrics_tell_what_a_tracker_shows(tmp_path: Path) -> None:
    train(tmp_path, steps=4, log_every=2, prefetch=2)
    rows = rows_of(tmp_path)
    assert [row["step"] for row in rows] == [2, 4]
    expected = {"loss", "lr", "grad_norm", "tokens", "tokens_per_s", "mfu", "step_ms", "data_ms", "seconds", "skipped"}
    assert all(expected <= set(row) for row in rows)
    assert 0 <= rows[0]["data_ms"] <= rows[0]["step_ms"]
    assert rows[1]["seconds"] - rows[0]["seconds"] == pytest.approx(2 * rows[1]["step_ms"] / 1000, rel=1e-3)
    if sys.platform == "linux":
        assert rows[0]["memory_mb"] > 50


def test_evaluation_takes_no_time_from_the_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make(tmp_path, CausalLM(), steps=3, eval_every=1)
    late = [0.0]
    monkeypatch.setattr(monitor, "time", SimpleNamespace(monotonic=lambda: monotonic() + late[0], time=now))

    def slow(_: Decoder) -> dict[str, float]:
        late[0] += 1000
        return {"score": 1.0}

    trainer.evaluate = slow
    trainer.run()
    assert late == [3000.0] and trainer.state.seconds < 1000


def test_a_batch_passed_over_and_a_return_are_events_with_their_place(tmp_path: Path) -> None:
    make(tmp_path, Poisoned({4, 5, 6, 7}, torch.nan), checkpoint_every=2, steps=6).run()
    events = rows_of(tmp_path, "watch/events.jsonl")
    assert [(event["kind"], event["step"]) for event in events] == [
        ("start", 0), ("skip", 4), ("skip", 4), ("skip", 4), ("rollback", 4), ("finish", 6),
    ]  # fmt: skip
    assert events[0]["steps"] == 6 and events[0]["parameters"] > 0
    assert "passed over" in events[1]["message"]
    assert "passed over" in (tmp_path / "train.log").read_text(encoding="utf-8")
    assert rows_of(tmp_path)[-1]["skipped"] == 4


def test_a_continued_run_says_so_and_goes_on_counting(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, SmallLoader(signals={3: signal.SIGTERM}))
    before = rows_of(tmp_path)[-1]["seconds"]
    train(tmp_path)
    assert [event["kind"] for event in rows_of(tmp_path, "watch/events.jsonl")] == [
        "start",
        "stop",
        "resume",
        "finish",
    ]
    seconds = [row["seconds"] for row in rows_of(tmp_path)]
    assert seconds == sorted(seconds) and seconds[-1] > before


def test_the_mean_of_the_losses_begins_at_the_first(tmp_path: Path) -> None:
    mean = Smoothed(0.9)
    assert mean.add(4.0) == pytest.approx(4.0)
    assert 2.0 < mean.add(2.0) < 4.0
    assert [Smoothed(0.5).add(math.pi) for _ in range(2)] == [pytest.approx(math.pi)] * 2


# Progress


def test_a_log_gets_lines_with_time_now_and_then_and_the_last_state(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with Progress("work", 1000, "steps", every_s=3600, log=tmp_path / "a.log") as progress:
        for _ in range(1000):
            progress.advance(note="loss 2.5")
    lines = (tmp_path / "a.log").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 and "work: 1,000/1,000 steps" in lines[0] and lines[0].endswith("loss 2.5")
    assert capsys.readouterr().err == ""


def test_lengths_of_time_are_written_as_people_read_them() -> None:
    assert [clock(seconds) for seconds in (0, 42.4, 187, 7387, 90000)] == [
        "0 s",
        "42 s",
        "3:07",
        "2:03:07",
        "25:00:00",
    ]


# Batches made ahead


class Counting(SmallLoader):
    made = 0

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for batch in super().__iter__():
            self.made += 1
            yield batch


def test_batches_are_made_ahead_and_the_place_is_that_of_the_last_one_taken() -> None:
    source = Counting()
    loader, plain = Prefetcher(source, 3), iter(SmallLoader())
    batches = iter(loader)
    for step in range(1, 6):
        assert np.array_equal(next(batches)["ids"], next(plain)["ids"])
        assert loader.state() == {"step": step}
    while source.made < 8:  # five taken, three ahead
        threading.Event().wait(0.01)
    loader.close()
    assert loader.state() == source.state() == {"step": 5}
    assert np.array_equal(next(iter(loader))["ids"], next(plain)["ids"])
    loader.close()


def test_what_breaks_the_loader_is_raised_where_its_batch_would_come() -> None:
    class Broken(SmallLoader):
        def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
            yield next(super().__iter__())
            raise LuhuoError("A shard is damaged.")

    batches = iter(Prefetcher(Broken(), 2))
    next(batches)
    with pytest.raises(LuhuoError, match="damaged"):
        next(batches)


def test_training_is_the_same_with_and_without_batches_made_ahead_and_resumes_exactly(tmp_path: Path) -> None:
    straight = train(tmp_path / "straight", prefetch=0)
    assert same(straight, train(tmp_path / "ahead", prefetch=3))
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", SmallLoader(signals={6: signal.SIGTERM}), prefetch=3)
    assert rows_of(tmp_path / "cut")[-1]["step"] < 8
    assert same(straight, train(tmp_path / "cut", prefetch=3))
    assert threading.active_count() == 1 or not any("_fill" in t.name for t in threading.enumerate())


# Held-out text by language and source


def test_held_out_bits_are_told_by_language_and_source(tmp_path: Path, material: dict[str, str]) -> None:
    done = produce("pretrain", stage(material, eval_every=3, eval_tokens=4096), tmp_path / "base")
    scores = [row for row in rows_of(done.path) if "valid_bpb" in row]
    assert [row["step"] for row in scores] == [3, 6]
    names = {"valid_bpb", "valid_bpb.en", "valid_bpb.zh", "valid_bpb.source.lamps", "valid_bpb.source.books"}
    assert names <= set(scores[0])
    metrics = done.manifest["metrics"]
    assert metrics["bpb.valid.zh"] == pytest.approx(scores[-1]["valid_bpb.zh"], rel=1e-5)
    low, high = sorted((metrics["bpb.valid.en"], metrics["bpb.valid.zh"]))
    assert low <= metrics["bpb.valid"] <= high


def test_the_parts_add_up_to_the_whole_and_to_the_objective(material: dict[str, str]) -> None:
    tokenizer = Tokenizer.load(material["tokenizer"])
    model = initialise(Decoder(CONFIG.model_copy(update={"vocab_size": tokenizer.vocab_size})), 0).eval()
    folder = Path(material["shards"]) / "valid"
    groups = read_header(folder)["groups"]
    sizes = [len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)]
    nats, size, by_lang = 0.0, 0, {"en": 0, "zh": 0}
    for batch in PackedLoader(folder, batch=4, length=32, seed=0, groups=True).epoch():
        tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
        valid = CausalLM.targets(tensors)
        nats += CausalLM().loss(model, {k: v for k, v in tensors.items() if k != "groups"})[0].item()
        for target, group in zip(tensors["ids"][:, 1:][valid], tensors["groups"][:, 1:][valid], strict=True):
            size += sizes[target]
            by_lang[groups[group - 1]["lang"]] += sizes[target]
    score = bits_per_byte(
        lambda: PackedLoader(folder, batch=4, length=32, seed=0, groups=True).epoch(), sizes, 10**6, groups
    )(model)
    assert score["valid_bpb"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    mixed = sum(score[f"valid_bpb.{lang}"] * part for lang, part in by_lang.items()) / size
    assert mixed == pytest.approx(score["valid_bpb"], rel=1e-6)


def test_every_token_knows_its_group_across_shards(material: dict[str, str]) -> None:
    tokenizer = Tokenizer.load(material["tokenizer"])
    folder = Path(material["shards"]) / "valid"
    groups = read_header(folder)["groups"]
    assert len(read_header(folder)["shards"]) > 1
    for batch in PackedLoader(folder, batch=2, length=40, seed=1, groups=True).epoch():
        assert ((batch["groups"] == 0) == (batch["segments"] == 0)).all()
        for ids, segments, places in zip(batch["ids"], batch["segments"], batch["groups"], strict=True):
            for segment in range(1, segments.max() + 1):
                here = segments == segment
                assert len(set(places[here])) == 1
                text = tokenizer.decode(ids[here].tolist(), skip_special=True)
                if len(text) > 12:
                    lang = groups[places[here][0] - 1]["lang"]
                    assert (lang == "zh") == any(c > "一" for c in text), text


def test_shards_of_before_have_one_figure_and_damaged_groups_are_refused(
    tmp_path: Path, material: dict[str, str]
) -> None:
    import shutil

    old = tmp_path / "old"
    shutil.copytree(material["shards"], old)
    for split in ("train", "valid", "test"):
        header = json.loads((old / split / "header.json").read_text())
        del header["groups"]
        for shard in header["shards"]:
            (old / split / f"{shard['name']}.grp").unlink()
            del shard["grp"]
        (old / split / "header.json").write_text(json.dumps(header))
    done = produce("pretrain", stage({**material, "shards": str(old)}), tmp_path / "base")
    assert [name for name in done.manifest["metrics"] if name.startswith("bpb")] == ["bpb.valid"]
    new = tmp_path / "new"
    shutil.copytree(material["shards"], new)
    with (new / "valid" / "00000.grp").open("r+b") as handle:
        handle.write(b"\x07")
    with pytest.raises(LuhuoError, match="damaged"):
        document_groups(new / "valid")


# Samples


def test_samples_are_written_at_their_steps_and_change_nothing(tmp_path: Path, material: dict[str, str]) -> None:
    plain = produce("pretrain", stage(material), tmp_path / "plain")
    asked = {"samples_every": 2, "sample_tokens": 5, "sample_prompts": ["Ann", "安"]}
    runs = [produce("pretrain", stage(material, **asked), tmp_path / name) for name in ("one", "two")]
    rows = rows_of(runs[0].path, "watch/samples.jsonl")
    assert [(row["step"], row["prompt"]) for row in rows] == [(s, p) for s in (2, 4, 6) for p in ("Ann", "安")]
    assert rows == rows_of(runs[1].path, "watch/samples.jsonl"), "the same each time"
    assert runs[0].manifest["digest"] == plain.manifest["digest"], "and the weights do not notice"
    assert runs[0].manifest["key"] == plain.manifest["key"], "so that a run may be watched from its middle on"


def test_prompts_come_in_both_languages_and_one_that_is_too_long_says_so(material: dict[str, str]) -> None:
    tokenizer = Tokenizer.load(material["tokenizer"])
    settings = {"vocab_size": tokenizer.vocab_size, "max_positions": 24}
    model = initialise(Decoder(CONFIG.model_copy(update=settings)), 0).eval()
    model.tokenizer = tokenizer
    assert sampler(TrainerConfig(steps=1), 0) is None
    for chat in (False, True):
        sample = sampler(TrainerConfig(steps=1, samples_every=1, sample_tokens=3), 0, chat=chat)
        assert sample is not None
        prompts = [row["prompt"] for row in sample(model)]
        assert sum(any(c > "一" for c in prompt) for prompt in prompts) == len(prompts) / 2
    long = sampler(TrainerConfig(steps=1, samples_every=1, sample_prompts=["lamps " * 50]), 0)
    assert long is not None and "context" in long(model)[0]["text"]


# Trackers


def test_tensorboard_events_hold_the_metrics_and_a_continued_run_replaces_what_it_makes_again(
    tmp_path: Path, material: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the extra tensorboard is not installed"
    )
    steps: list[int] = []
    step = Trainer._step

    def interrupted(self: Trainer, *args: Any) -> Any:
        steps.append(self.step)
        self.stop.asked = self.stop.asked or len(steps) == 3
        return step(self, *args)

    monkeypatch.setattr(Trainer, "_step", interrupted)
    values = {"track": ["tensorboard"], "samples_every": 6, "sample_tokens": 3}
    with pytest.raises(Interrupted):
        produce("pretrain", stage(material, **values), tmp_path / "base")
    done = produce("pretrain", stage(material, **values), tmp_path / "base")
    events = accumulator.EventAccumulator(str(done.path / "watch" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    written = [row["loss"] for row in rows_of(done.path) if "loss" in row]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(written, rel=1e-5)
    assert {"lr", "grad_norm", "tokens_per_s", "mfu", "valid_bpb", "valid_bpb.zh"} <= set(events.Tags()["scalars"])
    origin = events.Tensors("origin/text_summary")[0].tensor_proto.string_val[0].decode()
    assert '"stage": "pretrain"' in origin and '"size": "30k"' in origin
    assert not [name for name in done.manifest["files"] if name.startswith("watch")]


def test_a_tracker_that_is_not_installed_is_named_with_its_extra_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LuhuoError, match="wandb") as caught:
        train(tmp_path, track=["wandb"])
    assert "luhuo[wandb]" in str(caught.value)
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize("fails_at", ["start", "log"])
def test_a_tracker_that_fails_is_dropped_with_one_message_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, fails_at: str
) -> None:
    module = pytest.importorskip("torch.utils.tensorboard", reason="the extra tensorboard is not installed")

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("the server is gone\nand more")

    monkeypatch.setattr(module.SummaryWriter, "__init__" if fails_at == "start" else "add_scalar", fail)
    train(tmp_path, track=["tensorboard"])
    assert capsys.readouterr().err.count("the server is gone") == 1
    assert len(rows_of(tmp_path)) == 8


def test_mlflow_keeps_one_run_over_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is a heavy package and in no extra of the tests")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    out = Workspace(tmp_path, MetricsLog(tmp_path / "metrics.jsonl"), origin={"config": {"size": "30k"}})
    for loader in (SmallLoader(signals={3: signal.SIGTERM}), SmallLoader()):
        trainer = Trainer(
            initialise(Decoder(CONFIG), 0), CausalLM(), loader, TrainerConfig(**{**SMALL, "track": ["mlflow"]}), out
        )
        try:
            trainer.run()
        except Interrupted:
            continue
    client = mlflow.tracking.MlflowClient(f"sqlite:///{tmp_path}/watch/mlflow/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("luhuo").experiment_id])
    assert run.info.status == "FINISHED" and run.data.params == {"size": "30k"}
    assert sorted({m.step for m in client.get_metric_history(run.info.run_id, "loss")}) == list(range(1, 9))


def test_experts_tell_their_balance(tmp_path: Path) -> None:
    train_experts(tmp_path)
    rows = rows_of(tmp_path)
    assert all(row["expert_load.max"] >= 1 >= row["expert_load.min"] >= 0 for row in rows)
    train(tmp_path / "dense", steps=1)
    assert not [name for name in rows_of(tmp_path / "dense")[0] if name.startswith("expert_load")]
