"""Stage `pretrain`, from shards to a directory that loads; cut and continued; going on from a model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from luhuo.core.artifact import produce, read_manifest
from luhuo.core.errors import Interrupted, LuhuoError
from luhuo.corpus.loader import PackedLoader
from luhuo.corpus.shards import ShardWriter
from luhuo.model.load import load
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.tokenizer.training import train
from luhuo.train.stages import PretrainStage

TEXTS = [f"{name} has {count} lamps. {name}有{count}盏灯。" for name in ("Ann", "Bo", "Cai") for count in range(40)]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A small tokenizer and shards."""
    root = tmp_path_factory.mktemp("material")
    tokenizer = train(TEXTS, vocab_size=320)
    tokenizer.save(root / "tokenizer")
    _shards(root / "shards", tokenizer)
    return {"tokenizer": str(root / "tokenizer"), "shards": str(root / "shards")}


def _shards(folder: Path, tokenizer: Tokenizer) -> None:
    for split, texts in (("train", TEXTS[::2]), ("valid", TEXTS[1::8])):
        writer = ShardWriter(folder / split, tokenizer, 2**20)
        for text in texts:
            document = {"text": text, "lang": "en", "source": "lamps"}
            writer.add(document, [*tokenizer.encode(text), tokenizer.eos_id])
        writer.close()


def stage(material: dict[str, str], **values: object) -> PretrainStage:
    small = {"size": "30k", "length": 32, "batch": 128, "steps": 12, "dtype": "fp32", "threads": 1, "device": "cpu"}
    return PretrainStage.parse({**material, **small, **values})


def test_it_writes_a_model_with_its_tokenizer_and_headline_results(tmp_path: Path, material: dict[str, str]) -> None:
    done = produce("pretrain", stage(material, steps=40), tmp_path / "base")
    model = load(done.path)
    assert model.tokenizer is not None
    assert model.tokenizer.fingerprint == Tokenizer.load(material["tokenizer"]).fingerprint
    results = read_manifest(done.path)["metrics"]
    assert {"loss", "bpb.valid", "parameters", "steps", "tokens", "tokens_per_s"} <= set(results)
    first = json.loads((done.path / "metrics.jsonl").read_text().splitlines()[0])
    assert results["loss"] < 0.8 * first["loss"]
    assert not (done.path / ".checkpoint").exists()


def test_interrupted_and_continued_it_has_the_digest_of_an_undisturbed_run(
    tmp_path: Path, material: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = produce("pretrain", stage(material), tmp_path / "one")
    take, taken = PackedLoader._next, []

    def interrupt(loader: PackedLoader) -> dict:
        taken.append(1)
        if len(taken) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(loader)

    monkeypatch.setattr(PackedLoader, "_next", interrupt)
    with pytest.raises(Interrupted):
        produce("pretrain", stage(material), tmp_path / "two")
    assert not (tmp_path / "two").exists()
    continued = produce("pretrain", stage(material), tmp_path / "two")
    assert continued.manifest["digest"] == undisturbed.manifest["digest"]


def test_it_goes_on_from_an_existing_model(tmp_path: Path, material: dict[str, str]) -> None:
    base = produce("pretrain", stage(material, steps=40), tmp_path / "base")
    more = stage(material, model=str(base.path), learning_rate=1e-5, steps=2)
    again = produce("pretrain", more, tmp_path / "more")
    assert again.manifest["metrics"]["bpb.valid"] == pytest.approx(base.manifest["metrics"]["bpb.valid"], rel=0.02)
    assert not torch.equal(load(again.path).embedding, load(base.path).embedding)


def test_shards_of_another_tokenizer_are_refused(tmp_path: Path, material: dict[str, str]) -> None:
    other = train(TEXTS[:9], vocab_size=300)
    other.save(tmp_path / "other")
    with pytest.raises(LuhuoError, match=r"another tokenizer"):
        produce("pretrain", stage({**material, "tokenizer": str(tmp_path / "other")}), tmp_path / "base")


def test_steps_and_tokens_together_and_a_size_that_is_none_are_refused(material: dict[str, str]) -> None:
    with pytest.raises(LuhuoError, match="not both"):
        stage(material, tokens=5)
    with pytest.raises(LuhuoError, match="huge"):
        stage(material, size="huge")


def test_processes_of_torchrun_make_the_model_of_one(tmp_path: Path, material: dict[str, str]) -> None:
    alone = produce("pretrain", stage(material, optimiser="adamw"), tmp_path / "one")
    values = {**material, "size": "30k", "length": 32, "batch": 128, "steps": 12, "dtype": "fp32", "threads": 1}
    values |= {"device": "cpu", "optimiser": "adamw", "parallel": "{fsdp: 0}"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "luhuo"]
    command += ["pretrain", "--out", str(tmp_path / "two"), *(f"{key}={value}" for key, value in values.items())]
    for _ in range(2):  # the second time there is nothing left to do, for either process
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    assert done.stderr.count("Training for") == 0
    one, two = load(alone.path), load(tmp_path / "two")
    for (name, p), (_, q) in zip(one.named_parameters(), two.named_parameters(), strict=True):
        assert torch.allclose(p, q, rtol=0, atol=3e-4), name
    assert read_manifest(tmp_path / "two")["metrics"]["tokens"] == alone.manifest["metrics"]["tokens"]
