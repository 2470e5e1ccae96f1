"""Every adapter: it begins as nothing, learns, is switched off, merged, saved, loaded, and leaves its base alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from luhuo.adapter.attach import attach, attached, disabled, merge, merged
from luhuo.adapter.config import AdapterConfig
from luhuo.adapter.files import load, save
from luhuo.core.errors import LuhuoError
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.model.cache import KVCache
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.quantised import quantise_model
from tests.small_chat import random_prompts, small_model

METHODS: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora", "rank": 4},
    "lora of some": {"method": "lora", "rank": 4, "targets": ["q_proj", "up_proj", "mlp.down_proj"], "layers": [1]},
    "rslora": {"method": "lora", "rank": 4, "rslora": True},
    "pissa": {"method": "lora", "rank": 4, "init": "pissa"},
    "olora": {"method": "lora", "rank": 4, "init": "olora"},
    "lora with norms": {"method": "lora", "rank": 4, "train": ["norm", "embed_tokens"]},
    "dora": {"method": "dora", "rank": 4},
    "adalora": {"method": "adalora", "rank": 2},
    "dylora": {"method": "dylora", "rank": 4},
    "vera": {"method": "vera", "rank": 32},
    "ia3": {"method": "ia3"},
    "houlsby": {"method": "houlsby", "rank": 8},
    "pfeiffer": {"method": "pfeiffer", "rank": 8},
    "prefix": {"method": "prefix", "tokens": 5, "rank": 8},
    "p-tuning-v2": {"method": "p-tuning-v2", "tokens": 5},
    "prompt": {"method": "prompt", "tokens": 5},
    "bitfit": {"method": "bitfit"},
    "fishmask": {"method": "fishmask", "share": 0.01},
}
VIRTUAL = ("prefix", "p-tuning-v2", "prompt")
MERGED = [name for name in METHODS if name not in (*VIRTUAL, "houlsby", "pfeiffer", "bitfit")]


def ids_of(rows: int = 2, length: int = 15) -> Tensor:
    return torch.randint(20, 300, (rows, length), generator=torch.Generator().manual_seed(3))


def adapted(name: str, model: Decoder | None = None, *, moved: float = 0.05) -> Decoder:
    """A small model with an adapter that has moved away from its start."""
    model = model or small_model()
    adapter = attach(model, AdapterConfig.parse(METHODS[name]), 1)
    adapter.begin(10, lambda count: iter(_some_gradients(model, count)))
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for key, p in adapter.trained().items():
            step = torch.randn(p.shape, generator=generator) * moved
            masks = getattr(adapter, "masks", None)
            p += step if masks is None else step * masks[key]
    return model


def _some_gradients(model: Decoder, count: int):
    for number in range(count):
        model((ids_of() + number) % 300).float().square().mean().backward()
        yield
        model.zero_grad()


def logits(model: Decoder, ids: Tensor | None = None, **options: Any) -> Tensor:
    with torch.no_grad():
        return model(ids_of() if ids is None else ids, **options)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in VIRTUAL])
def test_a_fresh_adapter_changes_nothing(name: str):
    before = logits(small_model())
    model = small_model()
    attach(model, AdapterConfig.parse(METHODS[name]), 1)
    assert torch.allclose(logits(model), before, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_switched_off_adapter_is_the_model_before_bit_by_bit(name: str):
    before = logits(small_model())
    model = adapted(name)
    on = logits(model)
    with disabled(model):
        assert torch.equal(logits(model), before)
    assert torch.equal(logits(model), on) and not torch.allclose(on, before, atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_gradients_reach_all_that_is_trained_and_nothing_else(name: str):
    model = adapted(name).train()
    model(ids_of()).float().square().mean().backward()
    adapter = attached(model)
    assert adapter is not None
    trained = {id(p) for p in adapter.trained().values()}
    for key, p in model.named_parameters():
        assert (p.grad is not None) == (id(p) in trained), key
        assert p.requires_grad == (id(p) in trained), key


@pytest.mark.parametrize("name", MERGED)
def test_merged_weights_do_what_the_adapter_does_and_come_back_bit_by_bit(name: str):
    model = adapted(name)
    on, weights = logits(model), {key: p.clone() for key, p in model.named_parameters()}
    with merged(model):
        assert attached(model) is None
        assert torch.allclose(logits(model), on, atol=1e-5)
    assert torch.equal(logits(model), on)
    assert all(torch.equal(p, weights[key]) for key, p in model.named_parameters())


@pytest.mark.parametrize("name", [*VIRTUAL, "houlsby", "bitfit"])
def test_what_no_weight_can_do_is_not_merged(name: str):
    with pytest.raises(LuhuoError):
        merge(adapted(name))


@pytest.mark.parametrize("name", METHODS)
def test_a_saved_adapter_is_the_same_on_its_base(name: str, tmp_path: Path):
    model = adapted(name)
    save(model, tmp_path)
    found = small_model()
    assert load(found, tmp_path) == {}
    assert torch.allclose(logits(found), logits(model), atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_saved_adapter_of_another_shape_is_refused(name: str, tmp_path: Path):
    save(adapted(name), tmp_path)
    with pytest.raises(LuhuoError):
        load(small_model(hidden_size=48, head_dim=12, intermediate_size=64), tmp_path)


@pytest.mark.parametrize("name", METHODS)
def test_packed_documents_are_computed_as_if_each_were_alone(name: str):
    model = adapted(name)
    ids = ids_of(1, 20)
    segments = torch.tensor([[1] * 7 + [2] * 9 + [0] * 4])
    packed = logits(model, ids, segments=segments)
    assert torch.allclose(packed[:, :7], logits(model, ids[:, :7]), atol=1e-5)
    assert torch.allclose(packed[:, 7:16], logits(model, ids[:, 7:16]), atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_cache_gives_the_logits_of_the_whole_text(name: str):
    model = adapted(name)
    ids = ids_of(3, 12)
    whole = logits(model, ids)
    cache = KVCache(model.config, 3)
    parts = [logits(model, ids[:, start:end], cache=cache) for start, end in ((0, 5), (5, 6), (6, 9), (9, 12))]
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_the_engine_writes_what_the_model_computes(name: str):
    """An engine made before the adapter was attached sees it too: its compiled step looks at what is there."""
    model = small_model()
    engine = Engine(model)
    prompts, sampling = random_prompts(4, 12), Sampling(temperature=0, max_tokens=8)
    alone = [out.token_ids for out in engine.generate(prompts, sampling)]
    adapted(name, model, moved=0.3)
    engine.update_weights(model)
    outs = engine.generate(prompts, sampling)
    for prompt, out in zip(prompts, outs, strict=True):
        ids = list(prompt)
        for token in out.token_ids:
            row = logits(model, torch.tensor([ids]))[0, -1]
            assert row.max() - row[token] < 1e-3
            ids.append(token)
    assert [out.token_ids for out in outs] != alone
    with disabled(model):
        engine.update_weights(model)
        assert [out.token_ids for out in engine.generate(prompts, sampling)] == alone


@pytest.mark.parametrize("name", ["lora", "dora", "ia3", "vera", "prefix", "prompt"])
@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_an_adapter_trains_on_weights_kept_in_few_bits(name: str, scheme: str):
    model = small_model()
    quantise_model(model, scheme)
    adapter = attach(model, AdapterConfig.parse(METHODS[name]), 1)
    optimiser = torch.optim.Adam(adapter.trained().values(), 0.1 if name == "vera" else 0.01)
    ids = ids_of(2, 24)
    losses = []
    for _ in range(12):
        loss = torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05
    if adapter.mergeable:
        with pytest.raises(LuhuoError, match="few bits"):
            merge(model)


def test_gradients_through_few_bits_are_those_of_the_rounded_matrices():
    model = small_model()
    quantise_model(model, "int4")
    plain = small_model()
    with torch.no_grad():
        for key, module in model.named_modules():
            if hasattr(module, "packed") and key.startswith("blocks."):
                plain.get_submodule(key).weight.copy_(module.dense(torch.float32))
        plain.embedding.copy_(model.embedding.dense(torch.float32))
    for each in (model, plain):
        attach(each, AdapterConfig.parse(METHODS["lora"]), 1)
        each(ids_of(8, 60)).float().square().mean().backward()
    ours, theirs = (attached(each).own() for each in (model, plain))  # type: ignore[union-attr]
    assert all(torch.allclose(p.grad, theirs[key].grad, rtol=1e-3, atol=1e-6) for key, p in ours.items())


def test_virtual_tokens_begin_as_the_real_ones():
    """In front of a text stand the tokens of a short instruction, as if they had been written there."""
    text = "你好 hello"
    model = small_model()
    assert model.tokenizer is not None
    written = model.tokenizer.encode(text)
    ids = ids_of(2, 9)
    expected = logits(model, torch.cat([torch.tensor([written] * 2), ids], 1))[:, len(written) :]
    for method in ("prompt", "p-tuning-v2", "prefix"):
        found = small_model()
        attach(found, AdapterConfig.parse({"method": method, "text": text, "tokens": len(written)}), 1)
        assert torch.allclose(logits(found, ids), expected, atol=1e-4)


def test_nested_low_rank_updates_can_be_cut_to_any_rank():
    model = adapted("dylora")
    adapter = attached(model)
    adapter.before_step(0)  # type: ignore[union-attr]
    used = adapter.parts[0].used  # type: ignore[union-attr]
    training = model.train()(ids_of()).detach()
    adapter.cut(used)  # type: ignore[union-attr]
    assert torch.allclose(logits(model.eval()), training, atol=1e-5)
    drawn = set()
    for step in range(40):
        adapter.before_step(step)  # type: ignore[union-attr]
        drawn.add(adapter.parts[0].used)  # type: ignore[union-attr]
    assert drawn == {1, 2, 3, 4}


def test_adalora_ends_with_its_budget_of_directions():
    model = small_model()
    adapter = attach(model, AdapterConfig.parse({"method": "adalora", "rank": 2, "start_rank": 4}), 1)
    adapter.begin(20, None)
    optimiser = torch.optim.Adam(adapter.own().values(), 0.01)
    counts = []
    for step in range(20):
        model((ids_of() + step) % 300).float().square().mean().backward()
        adapter.after_backward(1.0)
        optimiser.step()
        adapter.after_step(step)
        optimiser.zero_grad()
        counts.append(sum(int((part.e != 0).sum()) for part in adapter.parts))  # type: ignore[attr-defined]
    parts = len(adapter.parts)  # type: ignore[attr-defined]
    assert counts[0] == 4 * parts and counts[-1] == 2 * parts and counts == sorted(counts, reverse=True)


def test_adaloras_penalty_is_the_gradient_of_what_it_says():
    model = small_model()
    adapter = attach(model, AdapterConfig.parse({"method": "adalora", "rank": 2, "orthogonality": 0.3}), 1)
    adapter.after_backward(1.0)
    part = adapter.parts[0]  # type: ignore[attr-defined]
    a = part.a.detach().clone().requires_grad_()
    (0.3 / (2 * len(adapter.parts)) * (a @ a.T - torch.eye(len(a))).norm()).backward()  # type: ignore[attr-defined]
    assert torch.allclose(part.a.grad, a.grad, atol=1e-6)


def test_fishmask_moves_the_numbers_with_the_largest_gradients_only():
    model = adapted("fishmask")
    base = dict(small_model().named_parameters())
    moved = {key: p != base[key] for key, p in model.named_parameters()}
    count = sum(int(m.sum()) for m in moved.values())
    assert count / sum(m.numel() for m in moved.values()) == pytest.approx(0.01, rel=0.05)
    masks = attached(model).masks  # type: ignore[union-attr]
    assert all(torch.equal(m, masks[key]) for key, m in moved.items())


def test_child_tuning_keeps_the_mean_of_the_gradient_and_is_the_same_everywhere():
    model = small_model()
    adapter = attach(model, AdapterConfig.parse({"method": "child-f", "share": 0.25}), 1)
    shares, totals = [], []
    for step in range(20):
        adapter.before_step(step)
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        adapter.after_backward(1.0)
        flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        shares.append((flat != 0).float().mean().item())
        totals.append(flat.mean().item())
    assert sum(shares) / 20 == pytest.approx(0.25, abs=0.01) and sum(totals) / 20 == pytest.approx(1, abs=0.02)


def test_a_copy_of_an_adapted_model_is_a_model_of_its_own():
    model = adapted("lora")
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for p in attached(twin).own().values():  # type: ignore[union-attr]
            p.zero_()
    assert not torch.allclose(logits(twin), logits(model))
    with disabled(model):
        assert torch.allclose(logits(twin), logits(model))


@pytest.mark.parametrize(
    "values",
    [
        {"method": "lora", "tokens": 4},
        {"method": "full", "base": "int4"},
        {"method": "adalora", "budget_from": 0.7, "budget_to": 0.5},
        {"method": "nonsense"},
    ],
)
def test_settings_that_the_method_does_not_read_are_refused(values: dict[str, Any]):
    with pytest.raises(LuhuoError):
        AdapterConfig.parse(values)


@pytest.mark.parametrize(
    "values",
    [
        {"targets": ["nothing"]},
        {"layers": [7]},
        {"train": ["nothing"]},
        {"method": "full", "freeze": ["nothing"]},
        {"method": "full", "freeze": ["("]},
        {"method": "full", "freeze": ["."]},
    ],
)
def test_places_that_are_not_there_are_named(values: dict[str, Any]):
    with pytest.raises(LuhuoError) as caught:
        attach(small_model(), AdapterConfig.parse(values))
    assert "adapter." in str(caught.value.where)


def test_latent_attention_is_adapted_in_both_its_forms():
    """Decoding goes through the matrices themselves, not through their products."""
    from luhuo.model.initialise import initialise
    from tests.parallel_cases import DEEPSEEK

    model = initialise(Decoder(ModelConfig(**DEEPSEEK | {"mtp_layers": 0})), 0).eval()
    adapted("lora", model, moved=0.3)
    ids = ids_of(2, 20) % 97
    whole, cache = logits(model, ids), KVCache(model.config, 2)
    parts = [logits(model, ids[:, start:end], cache=cache) for start, end in ((0, 17), (17, 18), (18, 20))]
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-4)
    with merged(model):
        assert torch.allclose(logits(model, ids), whole, atol=1e-4)


def test_both_pages_list_every_field_and_method():
    from luhuo.adapter.config import USES

    pages = [
        (Path(__file__).parent.parent / "docs" / name).read_text("utf-8") for name in ("adapters.md", "adapters.zh.md")
    ]
    for page in pages:
        assert all(f"| `{field}` |" in page for field in AdapterConfig.model_fields)
        assert all(f"`{method}`" in page for method in USES)
