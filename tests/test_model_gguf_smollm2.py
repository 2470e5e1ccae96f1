"""SmolLM2-135M-Instruct from the package that carries it: opened with no model hub, equal to `transformers`."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from luhuo.files.gguf import GGUF
from luhuo.files.references import resolve
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.model.decoder import Decoder
from luhuo.model.load import load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

NAME = "smollm2-135m-instruct"
HEADS, KV_HEADS, HEAD = 9, 3, 64
MODULES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
QUESTIONS = (
    "What is the capital of France? Answer in one sentence.",
    "Write a short poem about the sea.",
    "List three fruits.",
    "Explain in two sentences why the sky is blue.",
    "What is 12 plus 30?",
    "Give me a name for a cat.",
    "Translate to French: Good morning.",
    "Who wrote Romeo and Juliet?",
    "How do I boil an egg?",
    "Tell me a fact about the moon.",
)


@pytest.fixture(scope="module")
def file() -> Path:
    return resolve(NAME).path


@pytest.fixture(scope="module")
def ours() -> Decoder:
    return load(NAME, dtype="fp32", device="cpu")


@pytest.fixture(scope="module")
def theirs(file: Path) -> LlamaForCausalLM:
    """Llama of `transformers` with the weights as the `gguf` package reads them."""
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, num_hidden_layers=30, num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS, intermediate_size=1536, max_position_embeddings=8192, rms_norm_eps=1e-5,
        tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    weights = {}
    for tensor in gguf.GGUFReader(file).tensors:
        values = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
        heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(tensor.name.split(".")[-2])
        if heads:
            values = values.view(heads, HEAD // 2, 2, -1).transpose(1, 2).reshape(heads * HEAD, -1)
        weights[published(tensor.name)] = values
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model = LlamaForCausalLM(config).eval()
    model.load_state_dict(weights)
    return model


def published(name: str) -> str:
    if not name.startswith("blk."):
        return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}[name]
    _, layer, module, kind = name.split(".")
    return f"model.layers.{layer}.{MODULES[module]}.{kind}"


@torch.no_grad()
def test_logits_are_those_of_transformers_with_the_same_weights(ours: Decoder, theirs: LlamaForCausalLM) -> None:
    assert ours.tokenizer is not None
    text = "The furnace burns pure blue: 炉火纯青。def add(a, b):\n    return a + b  # 1234\n" * 4
    ids = torch.tensor([ours.tokenizer.encode(text)])
    assert ids.shape[1] > 100
    # Logits reach 30, and thirty layers of float32 leave a handful of seven million beyond 1e-4 by a hair.
    torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=1e-5, atol=1e-4)


def test_greedy_answers_to_ten_questions_are_those_of_transformers(ours: Decoder, theirs: LlamaForCausalLM) -> None:
    engine = Engine(ours)
    tokenizer = ours.tokenizer
    assert tokenizer is not None
    for question in QUESTIONS:
        prompt = tokenizer.encode(f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n", special=True)
        expected = theirs.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False)[0, len(prompt) :]
        found = engine.generate([prompt], Sampling(max_tokens=24, temperature=0.0))[0].token_ids
        assert [i for i in found if i != 2] == [i for i in expected.tolist() if i != 2], question


def test_the_file_holds_what_the_reference_sees(file: Path) -> None:
    found, reader = GGUF(file), gguf.GGUFReader(file)
    assert list(found.tensors) == [tensor.name for tensor in reader.tensors]
    for key in found.metadata:
        assert found.metadata[key] == reader.fields[key].contents(), key
    for tensor in reader.tensors:
        info = found.tensors[tensor.name]
        assert (info.kind.name, info.offset) == (tensor.tensor_type.name, tensor.data_offset)
