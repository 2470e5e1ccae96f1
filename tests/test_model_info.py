"""The figures of `luhuo info`: counted ones are exact, estimated ones are held against what really happens."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.files.gguf_types import TensorType
from luhuo.files.gguf_write import TensorPlan, write_gguf
from luhuo.model import info
from luhuo.model.cache import KVCache
from luhuo.model.config import MLAConfig, ModelConfig, MoEConfig
from luhuo.model.decoder import Decoder
from luhuo.model.gguf import export_gguf
from luhuo.model.info_table import print_info
from luhuo.model.initialise import initialise
from luhuo.model.load import load
from luhuo.model.save import save
from luhuo.model.weights import published_tensors
from luhuo.stages import configured
from luhuo.tokenizer.training import train
from tests.compress_cases import quantised, small_directory
from tests.test_cli import luhuo

PLAIN = ModelConfig(
    vocab_size=300,
    hidden_size=64,
    layers=3,
    heads=4,
    kv_heads=2,
    head_dim=16,
    intermediate_size=160,
    max_positions=256,
)
EXPERTS = MoEConfig(experts=8, active=2, intermediate_size=48, dense_layers=(0,))
SHAPES = {
    "qwen3": PLAIN,
    "gated off": PLAIN.model_copy(
        update={"family": "gpt2", "gated": False, "norm": "layer", "norm_bias": True, "positions": "learned",
                "qkv_bias": True, "out_bias": True, "mlp_bias": True, "qk_norm": "none", "kv_heads": 4}
    ),
    "experts": PLAIN.model_copy(update={"family": "qwen3_moe", "moe": EXPERTS}),
    "latent": PLAIN.model_copy(
        update={
            "family": "deepseek_v3", "qk_norm": "none", "kv_heads": 4, "head_dim": 24, "tie_embeddings": False,
            "mla": MLAConfig(q_rank=24, kv_rank=32, nope_dim=16, rope_dim=8, value_dim=16),
            "moe": EXPERTS.model_copy(update={"shared_size": 48, "score": "sigmoid", "correction": True}),
        }
    ),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model with a tokenizer and a model card."""
    model = initialise(Decoder(PLAIN), 0)
    model.tokenizer = train(["the furnace burns pure blue", "炉火纯青"] * 50, vocab_size=300)
    save(model, tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("---\nlanguage: zh\nlicense: apache-2.0\n---\n# Model\n")
    return tmp_path / "model"


@pytest.mark.parametrize("name", SHAPES)
def test_parts_add_up_to_the_model_and_fp32_weights_to_its_memory(name: str) -> None:
    with torch.device("meta"):
        model = Decoder(SHAPES[name])
    counted = sum(p.numel() for p in model.parameters())
    assert sum(info.parts(SHAPES[name]).values()) == counted
    assert info.weight_bytes(SHAPES[name], "fp32") == 4 * counted
    assert info.weight_bytes(SHAPES[name], "bf16") == 2 * counted


@pytest.mark.parametrize("name", SHAPES)
def test_the_cache_is_as_large_as_said(name: str) -> None:
    config = SHAPES[name]
    cache = KVCache(config, batch=3, capacity=256)
    held = sum(t.nbytes for t in [*cache.keys, *cache.values])
    assert info.costs(config, 256, 3)["serve"]["fp32"]["cache"] == held
    assert info.costs(config, 256, 1)["cache_of_context"]["fp32"] == held // 3


def kept_for_backward(model: Decoder, ids: torch.Tensor) -> int:
    """Bytes of all tensors that autograd keeps, parameters left out, each storage once."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        hidden = model.train().hidden(ids)
        total = sum(seen.values())
        hidden.sum().backward()
    return total


@pytest.mark.parametrize("name", SHAPES)
def test_the_estimate_of_activations_is_near_what_autograd_keeps(name: str) -> None:
    """Short rows, so that the scores, which only the CPU keeps, weigh little."""
    config = SHAPES[name]
    model = initialise(Decoder(config), 0)
    kept = kept_for_backward(model, torch.zeros(40, 10, dtype=torch.long))
    assert 0.8 < kept / (4 * info.activations(config) * 400) < 1.3


@pytest.mark.parametrize("name", ["qwen3", "experts", "latent"])
def test_adapters_are_counted_over_every_published_matrix_of_the_blocks(name: str) -> None:
    config = SHAPES[name]
    with torch.device("meta"):
        parameters = dict(Decoder(config).named_parameters())
    matrices = {n: t for n, t in published_tensors(config, parameters) if t.ndim == 2 and ".layers." in n}
    without_router = [t for n, t in matrices.items() if not n.endswith("mlp.gate.weight")]
    assert info.adapter_parameters(config, 16) == 16 * sum(sum(t.shape) for t in without_router)


def test_training_and_serving_add_up_and_need_less_in_fewer_bits() -> None:
    costs = info.costs(PLAIN, 128, 2)
    total = sum(info.parts(PLAIN).values())
    fp32 = costs["train"]["fp32"]
    assert (fp32["weights"], fp32["gradients"], fp32["optimiser"]) == (4 * total, 4 * total, 8 * total)
    for table in (costs["serve"], costs["train"]):
        assert all(sum(row.values()) == 2 * row["total"] for row in table.values())
        assert table["fp32"]["total"] > table["int8"]["total"] > table["int4"]["total"]


def model_vocabulary(folder: Path) -> int:
    values = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return len(values["model"]["vocab"].keys() | {token["content"] for token in values["added_tokens"]})


def test_a_model_directory_is_described(folder: Path) -> None:
    found = info.describe(folder, length=100)
    assert (found.architecture, found.family, found.format) == ("Qwen3ForCausalLM", "qwen3", "safetensors")
    assert found.stored == {"F32": found.parameters} and found.active == found.parameters
    assert (found.licence, found.context, found.length) == ("apache-2.0", 256, 100)
    words = found.tokenizer
    assert (words.kind, words.vocabulary) == ("BPE", model_vocabulary(folder)) and words.chat_template
    assert words.stop_tokens == ("<|im_end|>", "<|endoftext|>")
    assert found.bytes == (folder / "model.safetensors").stat().st_size


def test_only_active_experts_count_for_a_token() -> None:
    costs = info.costs(SHAPES["experts"], 128, 1)
    idle = 2 * (8 - 2) * 3 * 64 * 48  # sparse layers, idle experts, matrices
    assert costs["active"] == sum(info.parts(SHAPES["experts"]).values()) - idle
    assert costs["shape"]["experts"] == 8 and costs["flops"]["train"] == 3 * costs["flops"]["forward"]


@pytest.mark.parametrize(
    ("files", "licence"),
    [
        ({"README.md": "---\nlicense: other\nlicense_name: my-own\n---\n"}, "my-own"),
        ({"README.md": "# none\nlicense: no\n", "LICENSE": "\nApache License\nVersion 2.0\n"}, "Apache License"),
        ({"README.md": "---\nlicense: MIT\n"}, "MIT"),
        ({}, None),
    ],
)
def test_the_licence_comes_from_the_card_or_the_licence_file(folder: Path, files: dict[str, str], licence) -> None:
    (folder / "README.md").unlink()
    for name, text in files.items():
        (folder / name).write_text(text)
    assert info.describe(folder).licence == licence


def gguf(path: Path) -> Path:
    metadata = {
        "general.architecture": "unheard-of",
        "general.license": "apache-2.0",
        "unheard-of.context_length": 64,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": ["a", "b", "<end>"],
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": "{{ messages }}",
    }
    shapes = {"token_embd.weight": (3, 32), "blk.0.attn_q.weight": (32, 32), "blk.0.ffn_up.weight": (64, 32)}
    shapes |= {"blk.0.attn_norm.weight": (32,), "blk.0.ffn_gate_exps.weight": (2, 32, 32)}
    plans = [
        TensorPlan(name, shape, TensorType.F32, lambda shape=shape: iter([torch.zeros(shape).numpy().tobytes()]))
        for name, shape in shapes.items()
    ]
    write_gguf(path, metadata, plans)
    return path


def test_a_gguf_file_is_described_from_its_header(tmp_path: Path) -> None:
    found = info.describe(gguf(tmp_path / "m.gguf"))
    assert (found.format, found.architecture, found.licence, found.context) == ("gguf", "unheard-of", "apache-2.0", 64)
    assert found.parts == {"embedding": 96, "attention": 1024, "mlp": 2048, "norms": 32, "experts": 2048}
    assert found.stored == {"F32": found.parameters}
    assert found.tokenizer == info.TokenizerInfo("gpt2, smollm", 3, True, ("<end>",))


def test_a_gguf_file_of_a_known_architecture_has_the_figures_of_the_model_it_came_from(folder: Path, tmp_path: Path):
    export_gguf(load(folder, dtype="fp32", device="cpu"), tmp_path / "m.gguf", "q8_0_plain")
    before, after = info.describe(folder, length=64), info.describe(tmp_path / "m.gguf", length=64)
    for name in ("family", "parameters", "active", "context", "flops", "cache_per_token", "serve", "train"):
        assert getattr(before, name) == getattr(after, name), name
    assert dict(sorted(before.parts.items())) == dict(sorted(after.parts.items()))
    assert set(after.stored) == {"Q8_0", "F32"} and after.tokenizer.vocabulary == 300
    assert after.tokenizer.stop_tokens == ("<|im_end|>",)


@pytest.mark.parametrize(
    ("lang", "words"), [("en", ("feed-forward", "to serve", "licence")), ("zh", ("前馈层", "服务共需", "许可"))]
)
def test_the_tables_are_in_the_reader_s_language_and_fit_a_terminal(
    folder: Path, monkeypatch, capsys, lang, words
) -> None:
    monkeypatch.setenv("LUHUO_LANG", lang)
    monkeypatch.setenv("COLUMNS", "80")
    print_info(info.describe(folder, batch=2))
    page = capsys.readouterr().out
    assert all(word in page for word in words) and "…" not in page


def test_the_command_prints_json(folder: Path) -> None:
    values = json.loads(luhuo("info", str(folder), "--json", lang="zh").stdout)
    assert values["parameters"] == sum(values["parts"].values()) and values["serve"]["int4"]["total"] > 0


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b'{"architectures": ["NoSuchForCausalLM"]}', "not supported"),
        ("config.json", b"{", "not valid JSON"),
        ("model.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "damaged"),
        ("m.gguf", b"GGUF\x03\x00\x00\x00", "GGUF"),
    ],
)
def test_what_is_damaged_is_one_clear_error(folder: Path, file: str, content: bytes, message: str) -> None:
    (folder / file).write_bytes(content)
    with pytest.raises(LuhuoError, match=message):
        info.describe(folder / file if file.endswith(".gguf") else folder)


def test_how_matrices_are_kept_is_told(tmp_path: Path) -> None:
    dense = small_directory(tmp_path / "dense")
    quantised(dense, tmp_path / "few", method="rtn", bits=4, group=32)
    low = tmp_path / "low"
    even = {"method": "svd", "refit": False, "ratio": 0.5, "allocation": "uniform"}
    produce("factorise", configured("factorise", {"model": str(dense), **even}), low)
    told = {name: info.describe(tmp_path / name).compression for name in ("dense", "few", "low")}
    assert told["dense"] is None
    assert told["few"] == "compressed-tensors, 4 bits"
    assert re.fullmatch(r"luhuo-low-rank, \d+ matrices, rank \d+ to \d+", told["low"] or "")
