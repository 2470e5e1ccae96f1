"""The same batch and weights through trl: losses and gradients are equal to 1e-5."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from luhuo.align.log_probs import selected_log_probs
from luhuo.align.preference.cpo import CPO
from luhuo.align.preference.dpo import DPO
from luhuo.align.preference.kto import KTO, PLANE
from luhuo.align.preference.orpo import ORPO
from luhuo.align.preference.reference import live
from luhuo.align.preference.rendering import with_prompt
from luhuo.align.preference.simpo import SimPO
from luhuo.align.preference.units import UnitLoader, Units
from luhuo.dialogue.packing import TokenStore
from luhuo.dialogue.render import Rendered
from luhuo.model.decoder import Decoder
from luhuo.model.load import load
from luhuo.model.weights import published_tensors
from luhuo.train.objective import Batch
from tests.small_chat import small_tokenizer

PAIRS, VOCAB = 4, 310
Sequences = list[tuple[list[int], list[int]]]
"""Prompts and answers."""


def texts(seed: int) -> Sequences:
    chance = np.random.default_rng(seed)
    return [
        (chance.integers(5, VOCAB, 4 + k).tolist(), chance.integers(5, VOCAB, int(chance.integers(3, 12))).tolist())
        for k in range(PAIRS)
    ]


CHOSEN = texts(0)
REJECTED = [(prompt, answer) for (prompt, _), (_, answer) in zip(CHOSEN, texts(1), strict=True)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two random Llamas, policy and reference, as directories."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=small_tokenizer().vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=1,
        tie_word_embeddings=True,
        initializer_range=0.3,
    )
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name in ("policy", "reference"):
        LlamaForCausalLM(config).save_pretrained(root / name)
        small_tokenizer().save(root / name)
    return root / "policy", root / "reference"


def theirs(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def ours(folder: Path) -> Decoder:
    model = load(folder, dtype="fp32", device="cpu")
    assert isinstance(model, Decoder)
    return model


def rendered(one: tuple[list[int], list[int]]) -> Rendered:
    prompt, answer = one
    return Rendered(prompt + answer, [0] * len(prompt) + [1] * len(answer))


def batch_of(units: Units, length: int = 64) -> Batch:
    loader = UnitLoader(units, batch=len(units), length=length, seed=0, pad_id=1)
    return {name: torch.from_numpy(array) for name, array in loader.assemble(range(len(units))).items()}


def pairs(*, learn_prompt: bool = False) -> Batch:
    units = Units()
    for chosen, rejected in zip(CHOSEN, REJECTED, strict=True):
        first = with_prompt(rendered(chosen)) if learn_prompt else rendered(chosen)
        units.add([first, rendered(rejected)])
    return batch_of(units)


def padded(rows: Sequences, name: str = "", labels: str | None = None) -> dict[str, Tensor]:
    """trl's batch: right-padded rows, with a mask of the answers or with labels."""
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids, seen, answers = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(3))
    ids += 1
    for i, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[i, :end], seen[i, :end], answers[i, len(prompt) : end] = torch.tensor(prompt + answer), 1, 1
    last = {labels: ids.masked_fill(answers == 0, -100)} if labels else {f"{name}completion_mask": answers}
    return {f"{name}input_ids": ids, f"{name}attention_mask": seen, **last}


def compare(model: Decoder, objective: Any, batch: Batch, loss: Tensor, peer: Any) -> None:
    """Our loss and gradients against `loss` of the peer's model, which is taken backward here."""
    with torch.no_grad():
        batch = objective.prepare(model, batch)
    total, weight, _ = objective.loss(model, batch)
    torch.testing.assert_close(total / weight, loss.detach(), rtol=1e-5, atol=1e-5)
    (total / weight).backward()
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    wanted = {name: p.grad for name, p in peer.named_parameters() if p.grad is not None}
    found = dict(published_tensors(model.config, gradients))
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


def arguments(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "use_cpu": True,
        "report_to": "none",
        "bf16": False,
        "per_device_train_batch_size": PAIRS,
        "gradient_checkpointing": False,
        "max_length": 64,
    }


def peer_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def dpo_peer(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """trl's own trainer, from whose constructor to its loss nothing is ours."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = [{"prompt": "hello", "chosen": " world", "rejected": " you"}] * PAIRS
    settings = DPOConfig(**arguments(tmp_path_factory.mktemp("dpo")))
    policy, reference = models
    return DPOTrainer(
        theirs(policy),
        ref_model=theirs(reference),
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=peer_tokenizer(policy),
    )


@pytest.mark.parametrize(
    ("kind", "named", "smoothing"),
    [
        ("sigmoid", "sigmoid", 0.0),
        ("ipo", "ipo", 0.0),
        ("hinge", "hinge", 0.0),
        ("robust", "robust", 0.2),
        ("exo", "exo_pair", 0.1),
        ("apo_zero", "apo_zero", 0.0),
        ("apo_down", "apo_down", 0.0),
        ("normalised", "sigmoid_norm", 0.0),
    ],
)
def test_dpo(dpo_peer: Any, models: tuple[Path, Path], kind: Any, named: str, smoothing: float) -> None:
    dpo_peer.loss_types, dpo_peer.loss_weights = [named], [1.0]
    dpo_peer.beta, dpo_peer.label_smoothing = 0.3, smoothing
    dpo_peer.model.zero_grad(set_to_none=True)
    loss = dpo_peer._compute_loss(dpo_peer.model, padded(CHOSEN + REJECTED), False)
    normalise = kind == "normalised"
    objective = DPO(
        "sigmoid" if normalise else kind,
        beta=0.3,
        label_smoothing=smoothing,
        normalise=normalise,
        reference=live(ours(models[1])),
    )
    compare(ours(models[0]), objective, pairs(), loss, dpo_peer.model)


def test_dpo_with_the_chosen_answers_own_loss(dpo_peer: Any, models: tuple[Path, Path]) -> None:
    dpo_peer.loss_types, dpo_peer.loss_weights, dpo_peer.beta = ["sigmoid", "sft"], [1.0, 0.7], 0.1
    dpo_peer.model.zero_grad(set_to_none=True)
    loss = dpo_peer._compute_loss(dpo_peer.model, padded(CHOSEN + REJECTED), False)
    objective = DPO("sigmoid", beta=0.1, sft=0.7, reference=live(ours(models[1])))
    compare(ours(models[0]), objective, pairs(), loss, dpo_peer.model)


def test_kto(models: tuple[Path, Path], tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    rows = [{"prompt": f"hello {i}", "completion": " world", "label": i % 2 == 0} for i in range(2 * PAIRS)]
    reference, policy = models  # so that the baseline is above 0
    peer = KTOTrainer(
        theirs(policy),
        ref_model=theirs(reference),
        args=KTOConfig(**arguments(tmp_path), beta=0.3, desirable_weight=1.5, undesirable_weight=0.8),
        train_dataset=Dataset.from_list(rows),
        processing_class=peer_tokenizer(policy),
    )
    answers = CHOSEN + REJECTED
    others = [(prompt, answers[k - 1][1]) for k, (prompt, _) in enumerate(answers)]
    labels = [True] * PAIRS + [False] * PAIRS
    given = padded(answers) | padded(others, "KL_") | {"label": torch.tensor(labels)}
    loss = peer._compute_loss(peer.model, given, False)
    units = Units()
    for one in answers:
        units.add([rendered(one)])
    units.numbers["label"] = np.array(labels, dtype=np.float32)
    units.planes[PLANE] = TokenStore(rendered(one) for one in others)
    objective = KTO(beta=0.3, desirable=1.5, undesirable=0.8, reference=live(ours(reference)))
    batch = batch_of(units)
    compare(ours(policy), objective, batch, loss, peer.model)
    with torch.no_grad():
        assert objective.prepare(ours(policy), batch)["baseline"][0] > 0  # the test can see a wrong one


def concatenated() -> dict[str, Tensor]:
    """The batch of trl's older trainers."""
    found: dict[str, Tensor] = {}
    for side, rows in (("chosen", CHOSEN), ("rejected", REJECTED)):
        found |= {f"{side}_{name}": value for name, value in padded(rows, labels="labels").items()}
    return found


def older_peer(
    models: tuple[Path, Path], folder: Path, make: Callable[..., Any], settings: Callable[..., Any], **options: Any
) -> Any:
    from datasets import Dataset

    rows = [{"prompt": "hello", "chosen": " world", "rejected": " you"}] * PAIRS
    return make(
        theirs(models[0]),
        args=settings(**arguments(folder), **options, remove_unused_columns=False),
        train_dataset=Dataset.from_list(rows),
        processing_class=peer_tokenizer(models[0]),
    )


def test_orpo(models: tuple[Path, Path], tmp_path: Path) -> None:
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    peer = older_peer(models, tmp_path, ORPOTrainer, ORPOConfig, beta=0.3)
    loss, _ = peer.get_batch_loss_metrics(peer.model, concatenated())
    compare(ours(models[0]), ORPO(weight_of_odds=0.3), pairs(learn_prompt=True), loss, peer.model)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cpo(models: tuple[Path, Path], tmp_path: Path, smoothing: float) -> None:
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    options = {"beta": 0.2, "cpo_alpha": 0.7, "label_smoothing": smoothing}
    peer = older_peer(models, tmp_path, CPOTrainer, CPOConfig, **options)
    loss, _ = peer.get_batch_loss_metrics(peer.model, concatenated())
    compare(ours(models[0]), CPO(beta=0.2, label_smoothing=smoothing, sft=0.7), pairs(), loss, peer.model)


@pytest.mark.parametrize("sft", [0.0, 0.5])
def test_simpo(models: tuple[Path, Path], tmp_path: Path, sft: float) -> None:
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    options = {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.8, "cpo_alpha": sft}
    peer = older_peer(models, tmp_path, CPOTrainer, CPOConfig, **options)
    loss, _ = peer.get_batch_loss_metrics(peer.model, concatenated())
    compare(ours(models[0]), SimPO(beta=2.0, margin=0.8, sft=sft), pairs(), loss, peer.model)


def test_the_frozen_reference_of_a_test_is_another_model(models: tuple[Path, Path]) -> None:
    """Or the tests above would compare nothing."""
    hidden = torch.randn(3, 32)
    targets = torch.tensor([5, 6, 7])
    policy, reference = (ours(folder) for folder in models)
    first = selected_log_probs(policy, hidden, targets)[0]
    assert not torch.allclose(first, selected_log_probs(copy.deepcopy(reference), hidden, targets)[0])
