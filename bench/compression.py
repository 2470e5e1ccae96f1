"""What quantisation costs a model of real text: methods, bits and groups, three draws of calibration text.

    luhuo run recipes/compression.yaml --out RUN
    python bench/compression.py RUN [--seeds 0,1,2] [--bits 8,4,3,2] [--groups 128,64] [--only gptq,rtn] [--out DIR]

Perplexity of held-out documents against the model in fp32 (relative change), KL divergence to it in thousandths of a
nat, and the share of tokens at which both hold the same token to be the likeliest; by language for the perplexity.
± is a 95% interval: over seeds (Student's t) where a method draws calibration text, else over documents. "minmax" are
grids from the smallest to the largest weight, the others are searched. bf16 is the model not rounded, computed in what
8-bit inputs are computed in beside their products. What is finished in --out is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intervals import spread

EIGHT_BIT_INPUTS = ("w8a8", "smoothquant", "llm_int8")
"""Inputs are rounded only by a model that is kept as it was published; its other numbers are bf16 then."""


@dataclass(frozen=True)
class Arm:
    """One way to quantise."""

    name: str
    values: dict[str, Any]
    drawn: bool
    """Whether it draws calibration text."""

    @property
    def kind(self) -> str:
        """Its name without bits and group."""
        return re.sub(r" w\d g\d+$", "", self.name)


def arms(bits: list[int], groups: list[int]) -> Iterator[Arm]:
    """What is compared, in the order of the table."""
    for width in bits:
        for group in groups:
            grid = {"bits": width, "group": group}
            if width < 8:
                yield Arm(f"rtn minmax w{width} g{group}", {"method": "rtn", "search": False, **grid}, drawn=False)
            yield Arm(f"rtn w{width} g{group}", {"method": "rtn", **grid}, drawn=False)
            if width < 8:
                yield Arm(f"gptq minmax w{width} g{group}", {"method": "gptq", "search": False, **grid}, drawn=True)
            yield Arm(f"gptq w{width} g{group}", {"method": "gptq", **grid}, drawn=True)
            yield Arm(f"awq w{width} g{group}", {"method": "awq", **grid}, drawn=True)
            if 2 < width < 8:
                mixed = {"method": "gptq", "average_bits": width, "group": group}
                yield Arm(f"awq_gptq w{width} g{group}", {"method": "awq_gptq", **grid}, drawn=True)
                yield Arm(f"gptq mixed w{width} g{group}", mixed, drawn=True)
    yield Arm("bf16", {}, drawn=False)
    yield Arm("w8a8", {"method": "w8a8"}, drawn=False)
    yield Arm("w8a8 per tensor", {"method": "w8a8", "activations": "tensor"}, drawn=True)
    yield Arm("smoothquant", {"method": "smoothquant"}, drawn=True)
    yield Arm("smoothquant per tensor", {"method": "smoothquant", "activations": "tensor"}, drawn=True)
    yield Arm("llm_int8", {"method": "llm_int8"}, drawn=False)
    yield Arm("fp8", {"method": "fp8"}, drawn=False)


def measured(run: Path, arm: Arm, seed: int, original: Any, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one arm and seed; made if they are not there."""
    from luhuo.compress.measures import quality
    from luhuo.core.artifact import produce
    from luhuo.model.load import load_decoder
    from luhuo.stages import configured

    name = arm.name.replace(" ", "-") + (f"-s{seed}" if arm.drawn else "")
    file = options.out / f"{name}.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    values = {"model": str(options.model or run / "base"), "seed": seed, **arm.values}
    if arm.drawn:
        values |= {"data": str(run / "shards"), "sequences": options.sequences, "length": options.length}
    if not arm.values:
        model = load_decoder(values["model"], "bf16", "cpu")
        found = quality.figures(quality.compare(model, original), original)
        found["bytes"] = 2 * sum(parameter.numel() for parameter in model.parameters())
        file.write_text(json.dumps(found, indent=1), encoding="utf-8")
        return found
    folder = produce("quantize", configured("quantize", values), options.out / "models" / name)
    model = load_decoder(folder.path, "auto" if arm.values["method"] in EIGHT_BIT_INPUTS else "fp32", "cpu")
    found = quality.figures(quality.compare(model, original), original)
    found["bytes"] = folder.manifest["metrics"]["bytes"]
    found["seconds"] = folder.manifest["duration_s"]
    file.write_text(json.dumps(found, indent=1), encoding="utf-8")
    shutil.rmtree(folder.path)
    return found


def row(arm: Arm, found: list[dict[str, Any]]) -> str:
    """A line of the table."""

    def change(part: dict[str, Any]) -> float:
        return 100 * (part["perplexity"] / part["original_perplexity"] - 1)

    cells = [spread([change(one["all"]) for one in found])]
    if not arm.drawn:
        loss = found[0]["all"]["loss"]
        cells[0] += f" ({100 * loss['low']:.2f} to {100 * loss['high']:.2f})"
    cells += [spread([change(one["languages"][lang]) for one in found]) for lang in sorted(found[0]["languages"])]
    cells += [spread([1000 * one["all"]["kl"]["mean"] for one in found])]
    cells += [spread([100 * one["all"]["agreement"]["mean"] for one in found])]
    cells += [f"{found[0]['bytes'] / 1e6:.1f}"]
    return f"| {arm.name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Quantise what is missing, and print the table."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="with base, shards and text")
    parser.add_argument("--model", type=Path, help="another model than RUN/base")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--bits", default="8,4,3,2")
    parser.add_argument("--groups", default="128,64")
    parser.add_argument("--only", default="", help="names without bits and group, such as gptq,rtn minmax")
    parser.add_argument("--sequences", type=int, default=128)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=60_000, help="of held-out text")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/compression"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    from luhuo.compress.measures import passages, quality
    from luhuo.model.load import load_decoder

    model = load_decoder(options.model or options.run / "base", "fp32", "cpu")
    held = passages.select(options.run / "text", quality.tokenizer_of(model), tokens=options.tokens, length=512)
    original = quality.read_original(model, held)
    chosen = options.only.split(",") if options.only else None
    wanted = [int(part) for part in options.bits.split(",")], [int(part) for part in options.groups.split(",")]
    lines = []
    for arm in arms(*wanted):
        if chosen is not None and arm.kind not in chosen:
            continue
        seeds = [int(part) for part in options.seeds.split(",")] if arm.drawn else [0]
        found = [measured(options.run, arm, seed, original, options) for seed in seeds]
        lines.append(row(arm, found))
        print(lines[-1], flush=True)
    langs = sorted({passage.lang for passage in held})
    first = json.loads(next(options.out.glob("*.json")).read_text(encoding="utf-8"))
    base = {lang: first["languages"][lang]["original_perplexity"] for lang in langs}
    told = ", ".join(f"{lang} {value:.2f}" for lang, value in base.items())
    print(
        f"\nfp32: perplexity {first['all']['original_perplexity']:.2f} ({told}); {first['all']['tokens']:,} tokens\n"
    )
    print("| | perplexity % | " + " | ".join(f"{lang} %" for lang in langs) + " | KL ·10⁻³ | same top token % | MB |")
    print("|---" * (5 + len(langs)) + "|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
