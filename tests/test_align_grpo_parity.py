"""The same batch and weights give the loss and the gradients of trl's GRPO and RLOO trainers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from luhuo.align.methods import METHODS, Method
from luhuo.align.policy_gradient import PolicyGradient
from luhuo.model.decoder import Decoder
from luhuo.model.load import load_decoder
from luhuo.model.save import save
from luhuo.train.objective import Batch
from tests.rl_cases import gradients
from tests.small_chat import small_model, small_tokenizer

trl = pytest.importorskip("trl", reason="trl's losses are compared with ours only where it is installed")
datasets = pytest.importorskip("datasets", reason="trl reads its prompts with it")
transformers = pytest.importorskip("transformers", reason="trl trains models of transformers")

PROMPT, ANSWER, SAMPLES = 5, 9, 6
TRL_LOSSES: dict[str, tuple[Method, dict[str, Any]]] = {
    "grpo": (METHODS["grpo"], {"loss_type": "grpo"}),
    "grpo, the KL weighted by the ratio": (
        METHODS["grpo"],
        {"loss_type": "grpo", "use_bias_correction_kl": True},
    ),
    "dapo": (METHODS["dapo"], {"loss_type": "dapo", "epsilon_high": 0.28}),
    "dr_grpo": (METHODS["dr_grpo"], {"loss_type": "dr_grpo"}),
    "gspo": (
        METHODS["gspo"],
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
    ),
    "rloo": (METHODS["rloo"], {}),
}


def case() -> dict[str, Tensor]:
    """Prompts padded on the left, answers on the right, and numbers of an older policy near by."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(20, 300, (SAMPLES, PROMPT + ANSWER), generator=generator)
    prompts = torch.arange(PROMPT) >= torch.tensor([[0], [1], [2], [0], [3], [1]])
    answers = torch.arange(ANSWER) < torch.tensor([[9], [4], [7], [1], [9], [6]])
    near = 0.1 * torch.randn(2, SAMPLES, ANSWER, generator=generator)
    advantages = torch.randn(SAMPLES, generator=generator)
    return {"ids": ids, "prompts": prompts, "answers": answers, "near": near, "advantages": advantages}


def ours(given: dict[str, Tensor], log_probs: Tensor) -> Batch:
    """The case as a batch of ours: one sample a row."""
    real = torch.cat([given["prompts"], given["answers"]], 1)
    answers = torch.nn.functional.pad(given["answers"], (PROMPT, 0))

    def at_answers(values: Tensor) -> Tensor:
        return torch.nn.functional.pad(values * given["answers"], (PROMPT - 1, 0))

    return {
        "ids": given["ids"],
        "segments": real.int(),
        "mask": answers.to(torch.uint8),
        "advantages": at_answers(given["advantages"][:, None].expand(-1, ANSWER)),
        "sampled_log_probs": at_answers(log_probs + given["near"][0]),
        "old_log_probs": at_answers(log_probs + given["near"][0]),
        "reference_log_probs": at_answers(log_probs + given["near"][1]),
    }


def theirs(given: dict[str, Tensor], log_probs: Tensor) -> dict[str, Any]:
    """The case as trl's trainer hands it to its loss."""
    return {
        "prompt_ids": given["ids"][:, :PROMPT],
        "prompt_mask": given["prompts"].long(),
        "completion_ids": given["ids"][:, PROMPT:],
        "completion_mask": given["answers"].long(),
        "advantages": given["advantages"],
        "old_per_token_logps": log_probs + given["near"][0],
        "ref_per_token_logps": log_probs + given["near"][1],
        "old_logps": ((log_probs + given["near"][0]) * given["answers"]).sum(1),
        "num_items_in_batch": given["answers"].sum(),
    }


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Decoder, Any]:
    """One model in both libraries."""
    folder = tmp_path_factory.mktemp("model")
    save(small_model(opinionated=False), folder)
    return load_decoder(folder, dtype="fp32", device="cpu"), transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32
    )


def log_probs_of(model: Any, given: dict[str, Tensor]) -> Tensor:
    """By transformers: (samples, answer)."""
    mask = torch.cat([given["prompts"], given["answers"]], 1).long()
    chosen = model(given["ids"], attention_mask=mask).logits[:, PROMPT - 1 : -1].log_softmax(-1)
    return chosen.gather(-1, given["ids"][:, PROMPT:, None])[..., 0]


def trainer(name: str, model: Any, folder: Path, **settings: Any) -> Any:
    """trl's trainer, made as a user makes it; only its loss is asked."""
    small_tokenizer().save(folder)
    common = {
        "output_dir": str(folder),
        "per_device_train_batch_size": SAMPLES,
        "num_generations": SAMPLES,
        "max_completion_length": ANSWER,
        "beta": 0.1,
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
    }
    if name != "rloo":
        common["use_bias_correction_kl"] = False
    config, made = (trl.RLOOConfig, trl.RLOOTrainer) if name == "rloo" else (trl.GRPOConfig, trl.GRPOTrainer)
    found = made(
        model,
        reward_funcs=lambda **_: [0.0],
        args=config(**common | settings),
        train_dataset=datasets.Dataset.from_list([{"prompt": "a"}] * SAMPLES),
        processing_class=transformers.AutoTokenizer.from_pretrained(folder),
    )
    found.current_gradient_accumulation_steps = 1
    return found


@pytest.mark.parametrize("name", TRL_LOSSES)
def test_loss_and_gradients_are_those_of_trl(name: str, models: tuple[Decoder, Any], tmp_path: Path) -> None:
    method, settings = TRL_LOSSES[name]
    (mine, other), given = models, case()
    log_probs = log_probs_of(other, given).detach()
    task = PolicyGradient(
        method,
        clip_low=method.clip_low,
        clip_high=method.clip_high,
        kl=0.1,
        kl_estimator="k3" if "weighted" in name else "k3_plain",
        constant=float(ANSWER),
    )
    batch = ours(given, log_probs)
    loss, weight, _ = task.loss(mine.train(), batch)
    (loss / weight).backward()
    found = gradients(mine)

    peer = trainer(name, other, tmp_path, **settings)
    model = peer.model.train()
    model.zero_grad(set_to_none=True)
    expected = peer._compute_loss(model, theirs(given, log_probs))
    expected.backward()
    assert (loss / weight).item() == pytest.approx(expected.item(), abs=1e-5)
    names = dict(model.named_parameters())
    pairs = {
        "embedding": "model.embed_tokens.weight",
        "blocks.0.mlp.down.weight": "model.layers.0.mlp.down_proj.weight",
        "blocks.1.attention.out.weight": "model.layers.1.self_attn.o_proj.weight",
    }
    for key, peer_key in pairs.items():
        assert (found[key] - names[peer_key].grad).abs().max().item() < 1e-5, key
