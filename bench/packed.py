"""How fast weights of each form decode and read: one token through the compiled step, and a prompt of 512 tokens.

One model in all forms that the engine keeps: bf16, 8 and 4 bits as `luhuo.load` rounds them, 4 bits as GPTQ and AWQ
files have them (groups of 64; with lows; with columns in the order of activation), 3 bits, 8 bits with 8-bit
activations (W8A8), FP8, two of four values (2:4). Weights are rounded to the nearest here: this is about speed. Forms
take turns; of each the median processor time is printed, and its ratio to a form named beside it, turn by turn. With
`--half` also a model of half the width: states, heads and MLP.

    python bench/packed.py [--model REF] [--turns 9] [--rows 1] [--forms NAME …] [--half] [--products] [--experts]

`--products` measures single products instead, of so many matrices that they come from memory and not from a cache;
`--experts` writing and reading with a mixture of 32 random experts, four of them at work, in bf16, 8 and 4 bits.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from luhuo.compress.measures.speed import speeds
from luhuo.inference.decode_step import DecodeStep
from luhuo.kernels import eight_bit, low_bit, sparse
from luhuo.kernels.packed import pack
from luhuo.model.cache import KVCache
from luhuo.model.config import ModelConfig, MoEConfig
from luhuo.model.decoder import Decoder
from luhuo.model.eight_bit import EightBitLinear
from luhuo.model.initialise import initialise
from luhuo.model.kept_linear import KeptLinear
from luhuo.model.layers import Linear
from luhuo.model.load import load_decoder
from luhuo.model.quantised import SCHEMES, QuantisedLinear, Rounded, quantise_model, round_matrix
from luhuo.model.sparse import SparseLinear

TOKENS, PREFILL = 24, 512
MIXTURE = ModelConfig(
    family="qwen3_moe",
    vocab_size=16_384,
    hidden_size=1024,
    layers=8,
    heads=16,
    kv_heads=4,
    head_dim=64,
    intermediate_size=2048,
    moe=MoEConfig(experts=32, active=4, intermediate_size=512),
)
Form = Callable[[Tensor], KeptLinear]


def in_four_bits(
    weight: Tensor, *, group: int = 64, low: bool = False, moved: bool = False, bits: int = 4
) -> KeptLinear:
    """By the range of each group."""
    wide = weight.float()
    rows, columns = wide.shape
    grouped = wide.view(rows, -1, group)
    bottom, top = grouped.amin(-1), grouped.amax(-1)
    scale = (top - bottom).clamp(min=1e-8) / (2**bits - 1)
    least = bottom if low else -(2 ** (bits - 1)) * scale
    q = ((grouped - least[..., None]) / scale[..., None]).round().clamp(0, 2**bits - 1)
    q = (q if low else q - 2 ** (bits - 1)).to(torch.int8).view(rows, columns)
    order = torch.randperm(columns).int() if moved else None
    found = Rounded(q, scale.half(), least.half() if low else None, 4, group, order)
    return QuantisedLinear(found.packed())


def in_eight_bits(weight: Tensor) -> KeptLinear:
    """Weights by row, activations by token."""
    scale = weight.float().abs().amax(1, keepdim=True) / 127
    return EightBitLinear(eight_bit.eight_bit((weight.float() / scale).round(), scale))


def in_fp8(weight: Tensor) -> KeptLinear:
    """E4M3 with a scale a row."""
    scale = weight.float().abs().amax(1, keepdim=True) / 448
    values = (weight.float() / scale).to(torch.float8_e4m3fn)
    return QuantisedLinear(pack(values, scale, bits=8, group=-(-weight.shape[1] // 8) * 8))


def in_two_of_four(weight: Tensor) -> KeptLinear:
    """The first and the third of each four: which they are makes no difference here."""
    whole = weight.detach().clone()
    whole[:, 1::2] = 0
    return SparseLinear(sparse.pack(whole))


FORMS: dict[str, tuple[Form | None, str]] = {
    "bf16": (None, "bf16"),
    "int8": (lambda w: QuantisedLinear(round_matrix(w, 8, 64).packed()), "bf16"),
    "int4": (lambda w: in_four_bits(w, group=32), "bf16"),
    "int4 g64": (in_four_bits, "int4"),
    "int4 g64 lows": (lambda w: in_four_bits(w, low=True), "int4"),
    "int4 g64 order": (lambda w: in_four_bits(w, moved=True), "int4"),
    "int4 g64 lows order": (lambda w: in_four_bits(w, low=True, moved=True), "int4"),
    "int3 g64": (lambda w: in_four_bits(w, bits=3), "int4"),
    "w8a8": (in_eight_bits, "int8"),
    "fp8": (in_fp8, "int8"),
    "2:4": (in_two_of_four, "bf16"),
}
"""How a form is made of a matrix, and what it is compared with."""


def put_all(model: Decoder, form: Form | None) -> Decoder:
    """Keep the blocks' matrices of a model in a form."""
    for name, module in list(model.named_modules()):
        if form is not None and type(module) is Linear and name.startswith("blocks."):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, form(module.weight.detach()))
    return model


def decode(model: Decoder, rows: int) -> Callable[[], float]:
    """Processor seconds a step of `rows` streams behind a short text."""
    step, cache = DecodeStep.of(model), KVCache(model.config, rows, 256, model.dtype)
    assert step is not None and step.fits(cache)
    ids = torch.arange(rows) + 5

    def run() -> float:
        cache.lengths = [8] * rows
        start = time.process_time()
        for _ in range(TOKENS):
            step(ids, cache)
        return (time.process_time() - start) / TOKENS

    return run


def prefill(model: Decoder) -> Callable[[], float]:
    """Processor seconds for a prompt, its last token's logits included."""
    ids = torch.arange(PREFILL)[None] % model.config.vocab_size

    def run() -> float:
        start = time.process_time()
        model.head(model.hidden(ids)[:, -1:])
        return time.process_time() - start

    return run


def measure(runs: dict[str, Callable[[], float]], against: dict[str, str], turns: int) -> None:
    """Run all in turn and print medians, and medians of the ratios within a turn."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(turns + 1):
        for name, run in runs.items():
            seconds = run()
            if turn:  # the first warms up
                found[name].append(seconds)
    for name, seconds in found.items():
        other = against[name]
        ratios = sorted(b / a for a, b in zip(seconds, found[other], strict=True))
        spread = f"{ratios[len(ratios) // 4]:.2f}-{ratios[-1 - len(ratios) // 4]:.2f}"
        print(
            f"  {name:<22}{1e3 * statistics.median(seconds):9.2f} ms   {statistics.median(ratios):.2f} "
            f"({spread}) times as fast as {other}"
        )


def single_products(turns: int, rows: int, forms: list[str]) -> None:
    """Products of one shape in all forms, over so many matrices that none stays in a cache."""
    shape, count = (1536, 2048), 24
    weights = [torch.randn(shape).bfloat16() for _ in range(count)]
    x, y = torch.randn(rows, shape[1]), torch.empty(rows, shape[0])
    views = {
        name: [form(w) for w in weights] if form else [low_bit.describe_dense(w) for w in weights]
        for name, (form, _) in FORMS.items()
        if name in forms
    }
    tables = {n: [m.describe() if isinstance(m, KeptLinear) else m for m in made] for n, made in views.items()}

    def run_of(name: str) -> Callable[[], float]:
        def run() -> float:
            start = time.process_time()
            for matrix in tables[name]:
                low_bit.call("matrix_product", matrix, x, y, rows)
            return (time.process_time() - start) / count

        return run

    print(f"products of {rows} rows with {shape[0]} x {shape[1]}:")
    measure({name: run_of(name) for name in forms}, {name: FORMS[name][1] for name in forms}, turns)


def mixtures(turns: int) -> None:
    """Writing with experts in few bits against bf16."""
    models = {}
    for scheme in ("bf16", *SCHEMES):
        models[scheme] = initialise(Decoder(MIXTURE), 0).to(torch.bfloat16).eval()
        if scheme in SCHEMES:
            quantise_model(models[scheme], scheme)
        size = sum(tensor.nbytes for tensor in (*models[scheme].parameters(), *models[scheme].buffers()))
        print(f"{scheme}: {size / 1e6:.0f} MB")
    found = speeds(models, prompt=128, new=32, turns=turns)
    for name, one in found.models.items():
        ratios = [statistics.median(of) for of in (one.decode_ratios, one.prefill_ratios)]
        print(
            f"  {name:<6}{one.decode:7.1f} tok/s written ({ratios[0]:.2f}), {one.prefill:7.0f} read ({ratios[1]:.2f})"
        )
    if found.beside_other_work:
        print("beside other work: take the ratios only")


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--products", action="store_true")
    parser.add_argument("--experts", action="store_true")
    wanted = parser.parse_args()
    if wanted.experts:
        mixtures(wanted.turns)
    elif wanted.products:
        single_products(wanted.turns, wanted.rows, wanted.forms)
    else:
        whole_models(wanted)


def whole_models(wanted: argparse.Namespace) -> None:
    """Decoding and reading a prompt in all forms."""
    models = {name: put_all(load_decoder(wanted.model, "bf16", "cpu"), FORMS[name][0]) for name in wanted.forms}
    against = {name: FORMS[name][1] for name in wanted.forms}
    if wanted.half:
        config = next(iter(models.values())).config
        half = {name: getattr(config, name) // 2 for name in ("hidden_size", "intermediate_size")}
        half["heads"] = config.kv_heads * max(1, config.heads // config.kv_heads // 2)
        for name in ("bf16", "int4"):
            if name not in models:
                continue
            small = initialise(Decoder(config.model_copy(update=half)), 0).to(torch.bfloat16).eval()
            models[f"{name} half"], against[f"{name} half"] = put_all(small, FORMS[name][0]), name
    for name, model in models.items():
        if name not in ("bf16", "2:4", "bf16 half"):
            quantise_model(model, "int8")  # what is left: the embedding, which is the output matrix
    print(f"decoding, {wanted.rows} rows, {torch.get_num_threads()} threads:")
    measure({name: decode(model, wanted.rows) for name, model in models.items()}, against, wanted.turns)
    print(f"reading {PREFILL} tokens:")
    measure({name: prefill(model) for name, model in models.items()}, against, max(2, wanted.turns // 3))


if __name__ == "__main__":
    main()
