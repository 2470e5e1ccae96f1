"""The stages `distill` and `teacher-logits`: from settings to a student, cut off, continued, refused where wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from luhuo.align.distill.matching import layer_map
from luhuo.align.distill.stored import open_stored
from luhuo.align.distill.storing import store_logits
from luhuo.core.artifact import Done, Workspace, produce
from luhuo.core.digest import path_digest
from luhuo.core.errors import Interrupted, LuhuoError
from luhuo.core.metrics import MetricsLog
from luhuo.model.load import load
from luhuo.model.save import save
from luhuo.stages import configured
from luhuo.train.trainer import Trainer
from tests.distill_cases import teacher_model
from tests.small_chat import small_model, with_template

QUESTIONS = ["hello", "你好", "how are you", "苹果", "what is 42", "天气", "world", "today"]


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """A student, a wider teacher, and conversations."""
    save(small_model(opinionated=False), tmp_path / "student")
    save(teacher_model(), tmp_path / "teacher")
    rows = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": f"{q} 42"}]} for q in QUESTIONS
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    paths = {"model": tmp_path / "student", "teacher": tmp_path / "teacher", "data": tmp_path / "data.jsonl"}
    return {name: str(path) for name, path in paths.items()} | {
        "steps": 6,
        "batch": 128,
        "length": 64,
        "learning_rate": 3e-3,
        "dtype": "fp32",
        "device": "cpu",
        "threads": 1,
        "checkpoint_every_s": 0,
    }


EVERYTHING = {"states": {"weight": 0.1}, "attention": {"relation_heads": 2}, "divergence": "jsd"}


def run(given: dict[str, Any], target: Path, **changes: Any) -> Done:
    return produce("distill", configured("distill", given | changes), target)


def lines(done: Done) -> list[dict[str, Any]]:
    return [row for row in MetricsLog(done.path / "metrics.jsonl").read() if "divergence" in row]


def logits(given: dict[str, Any], target: Path, **changes: Any) -> Done:
    settings = {name: given[name] for name in ("teacher", "data", "length", "device", "threads")}
    settings |= {"k": 20, "teacher_dtype": "fp32", "kept": "fp32"}
    return produce("teacher-logits", configured("teacher-logits", settings | changes), target)


def test_a_student_comes_closer_to_its_teacher(given: dict[str, Any], tmp_path: Path) -> None:
    before = path_digest(tmp_path / "teacher")
    done = run(given, tmp_path / "out", steps=20, share=1, valid=given["data"], **EVERYTHING)
    told = lines(done)
    for name in ("divergence", "states", "attention"):
        assert told[-1][name] < told[0][name], name
    results = done.manifest["metrics"]
    assert {"valid.loss", "valid.divergence", "valid.next_token", "divergence", "agreement"} <= results.keys()
    student = load(done.path, dtype="fp32", device="cpu")
    assert student.tokenizer is not None and not hasattr(student, "bridge")
    kept = load_file(done.path / "model.safetensors").keys()
    assert kept == load_file(tmp_path / "student" / "model.safetensors").keys()
    assert path_digest(tmp_path / "teacher") == before


def cut_off(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    step = Trainer._step

    def interrupted(self: Trainer, batch: Any) -> Any:
        metrics = step(self, batch)
        self.stop.asked = self.step == at
        return metrics

    monkeypatch.setattr(Trainer, "_step", interrupted)


@pytest.mark.parametrize("changes", [EVERYTHING, {"adapter": {"method": "lora", "rank": 2}} | EVERYTHING])
def test_a_run_that_is_cut_off_ends_with_the_same_bits(
    changes: dict[str, Any], given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(given, tmp_path / "whole", **changes)
    cut_off(monkeypatch, 3)
    with pytest.raises(Interrupted):
        run(given, tmp_path / "cut", **changes)
    monkeypatch.undo()
    cut = run(given, tmp_path / "cut", **changes)
    name = "adapter_model.safetensors" if "adapter" in changes else "model.safetensors"
    ours, theirs = (load_file(done.path / name) for done in (whole, cut))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[tensor], theirs[tensor]) for tensor in ours)
    assert [row["loss"] for row in lines(whole)] == [row["loss"] for row in lines(cut)]


def test_stored_logits_of_all_tokens_teach_what_the_teacher_teaches(given: dict[str, Any], tmp_path: Path) -> None:
    stored = logits(given, tmp_path / "stored", k=10_000, distill_temperature=2.0, shard_targets=30)
    assert stored.manifest["metrics"]["rest"] == 0 and len(list(stored.path.glob("logits-*.safetensors"))) > 1
    live = run(given, tmp_path / "live", distill_temperature=2.0)
    kept = run({**given, "teacher": None}, tmp_path / "kept", stored=str(stored.path))
    for one, other in zip(lines(live), lines(kept), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert kept.manifest["metrics"]["agreement"] == pytest.approx(live.manifest["metrics"]["agreement"])


def test_a_few_stored_tokens_in_few_bits_teach_nearly_the_same(given: dict[str, Any], tmp_path: Path) -> None:
    stored = logits(given, tmp_path / "stored", k=64, kept="fp16")
    assert 0 < stored.manifest["metrics"]["rest"] < 0.7
    kept = lines(run({**given, "teacher": None}, tmp_path / "kept", stored=str(stored.path), share=1))
    live = lines(run(given, tmp_path / "live", share=1))
    assert 0 < kept[0]["divergence"] < live[0]["divergence"] and kept[-1]["divergence"] < kept[0]["divergence"]


def test_stored_logits_are_found_in_any_order_and_missed_where_data_differ(
    given: dict[str, Any], tmp_path: Path
) -> None:
    stored = logits(given, tmp_path / "stored")
    turned = (tmp_path / "data.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[::-1]
    (tmp_path / "turned.jsonl").write_text("".join(turned[:5]), encoding="utf-8")
    own = {**given, "teacher": None, "stored": str(stored.path)}
    run(own, tmp_path / "turned", data=str(tmp_path / "turned.jsonl"), steps=1)
    (tmp_path / "other.jsonl").write_text(turned[0].replace("42", "43"), encoding="utf-8")
    with pytest.raises(LuhuoError, match="other conversations"):
        run(own, tmp_path / "other", data=str(tmp_path / "other.jsonl"))


def test_storing_that_is_cut_off_keeps_what_is_there(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = logits(given, tmp_path / "whole", shard_targets=20)
    folder = tmp_path / "cut"
    folder.mkdir()
    shards = sorted(whole.path.glob("logits-*.safetensors"))
    assert len(shards) >= 3
    (folder / shards[0].name).write_bytes(shards[0].read_bytes())
    (folder / shards[1].name).write_bytes(shards[1].read_bytes()[:100])  # damaged: made again
    stage = configured("teacher-logits", whole.manifest["config"])
    written: list[str] = []
    from luhuo.align.distill import storing

    save_file = storing.save_file
    monkeypatch.setattr(storing, "save_file", lambda *given: written.append("shard") or save_file(*given))
    store_logits(stage, Workspace(folder, MetricsLog(folder / "m.jsonl")), torch.device("cpu"))  # type: ignore[arg-type]
    assert len(written) == len(shards) - 1
    for shard in shards:
        ours, theirs = (load_file(place / shard.name) for place in (whole.path, folder))
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_other_tokenizers_are_refused_with_both_fingerprints_and_the_way_through_text(
    given: dict[str, Any], tmp_path: Path
) -> None:
    stored = logits(given, tmp_path / "stored")
    student = small_model(opinionated=False)
    student.tokenizer = renamed(student.tokenizer)
    save(student, tmp_path / "other")
    assert student.tokenizer is not None
    teacher = load(tmp_path / "teacher").tokenizer
    assert teacher is not None
    for changes in ({}, {"teacher": None, "stored": str(stored.path)}):
        with pytest.raises(LuhuoError) as caught:
            run({**given, **changes}, tmp_path / "refused", model=str(tmp_path / "other"))
        told = str(caught.value)
        assert student.tokenizer.fingerprint[:16] in told and teacher.fingerprint[:16] in told
        assert "teacher-answers" in told


def renamed(tokenizer: Any) -> Any:
    """The same tokenizer with two tokens exchanged."""
    import tokenizers

    values = json.loads(tokenizer._core.to_str())
    vocabulary = values["model"]["vocab"]
    first, second = list(vocabulary)[:2]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    return type(tokenizer)(
        tokenizers.Tokenizer.from_str(json.dumps(values)), tokenizer._config, tokenizer.chat_template
    )


def test_another_chat_template_is_no_other_tokenizer(given: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    teacher = teacher_model()
    template = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    teacher.tokenizer = with_template(template)
    save(teacher, tmp_path / "other")
    run(given, tmp_path / "out", teacher=str(tmp_path / "other"), steps=1)
    assert "different chat templates" in capsys.readouterr().err


def test_settings_that_cannot_work_are_refused_in_plain_words(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(LuhuoError, match="teacher or stored"):
        configured("distill", given | {"stored": "x"})
    with pytest.raises(LuhuoError, match="nothing is learned"):
        configured("distill", given | {"share": 0})
    with pytest.raises(LuhuoError, match="no states or attention"):
        configured("distill", {**given, "teacher": None, "stored": "x", "states": {}})
    with pytest.raises(LuhuoError, match="whole models"):
        configured("distill", given | {"states": {}, "parallel": {"fsdp": 2}})
    with pytest.raises(LuhuoError, match="head by head") as caught:
        run(given, tmp_path / "scores", attention={"kind": "scores"})
    assert caught.value.fix == "attention: {kind: relations}"
    with pytest.raises(LuhuoError, match="divide into the heads"):
        run(given, tmp_path / "heads", attention={"relation_heads": 5})
    with pytest.raises(LuhuoError, match="not there"):
        run(given, tmp_path / "layers", states={"layers": {3: 1}})
    with pytest.raises(LuhuoError, match="no stored logits"):
        open_stored(str(tmp_path / "student"), None)


def test_layers_are_spread_evenly() -> None:
    assert layer_map("uniform", 4, 12, 0) == {0: 0, 1: 3, 2: 6, 3: 9, 4: 12}
    assert layer_map("uniform", 3, 2, 1) == {1: 1, 2: 1, 3: 2}
    assert layer_map("last", 4, 12, 1) == {4: 12}
    assert layer_map({2: 5}, 4, 12, 1) == {2: 5}
