"""What low rank costs a model of real text: SVD, ASVD and SVD-LLM at several ratios, and LQER on rounded matrices.

    luhuo run recipes/compression.yaml --out RUN
    python bench/low_rank.py RUN [--model DIR] [--seeds 0,1,2] [--ratios 0.9,0.8,0.6] [--bits 4,3] [--out DIR]
    python bench/low_rank.py RUN --speed [--ratio 0.5]

RUN holds base, shards and text. Perplexity of held-out documents against the model in fp32 (relative change), KL
divergence to it in thousandths of a nat, agreement on the likeliest token. ± is a 95% interval over draws of
calibration text (Student's t); (… to …) one over documents, for what draws none. What is finished in --out is not done
again. --speed: tokens a second of the model and of its factors, in turn, and the ratio by turn.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intervals import spread


@dataclass(frozen=True)
class Arm:
    """One way to make a model smaller: the stages one after another, each on what the one before made."""

    name: str
    stage: str
    values: dict[str, Any]
    drawn: bool
    """Whether it draws calibration text."""


def arms(ratios: list[float], bits: list[int], rank: int) -> Iterator[Arm]:
    """What is compared, in the order of the table."""
    for ratio in ratios:
        even = {"ratio": ratio, "allocation": "uniform"}
        plain = {"method": "svd", "refit": False, **even}
        yield Arm(f"svd {ratio:g}", "factorise", plain, drawn=False)
        yield Arm(f"svd refitted {ratio:g}", "factorise", {"method": "svd", **even}, drawn=True)
        yield Arm(f"asvd {ratio:g}", "factorise", {"method": "asvd", "refit": False, **even}, drawn=True)
        for allocation in ("uniform", "energy", "outputs"):
            values = {"method": "svd-llm", "ratio": ratio, "allocation": allocation}
            yield Arm(f"svd-llm {allocation} {ratio:g}", "factorise", values, drawn=True)
    for width in bits:
        grid = {"method": "rtn", "bits": width, "group": "auto"}
        yield Arm(f"rtn w{width}", "quantize", grid, drawn=False)
        for scaling in ("none", "activation", "moment"):
            values = {"bits": width, "rank": rank, "scaling": scaling}
            yield Arm(f"rtn w{width} + lqer {scaling} r{rank}", "lqer", values, drawn=True)


def made(arm: Arm, seed: int, options: argparse.Namespace) -> Any:
    """The model of an arm, as a decoder in fp32, and its artifact."""
    from luhuo.adapter.open import open_decoder
    from luhuo.core.artifact import produce
    from luhuo.stages import configured

    values: dict[str, Any] = {"model": str(options.model), "seed": seed, **arm.values}
    if arm.drawn:
        values |= {"data": str(options.run / "shards"), "sequences": options.sequences, "length": options.length}
    if arm.stage == "lqer":
        grid = {"model": str(options.model), "method": "rtn", "bits": values.pop("bits"), "group": "auto"}
        few = produce("quantize", configured("quantize", grid), options.out / "models" / f"rtn-{grid['bits']}")
        values["quantised"] = str(few.path)
    folder = options.out / "models" / f"{arm.name.replace(' ', '-')}-s{seed}"
    done = produce(arm.stage, configured(arm.stage, values), folder)
    return open_decoder(done.path, dtype="fp32", device="cpu"), done


def measured(arm: Arm, seed: int, original: Any, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one arm and seed; made if they are not there."""
    from luhuo.compress.measures import quality

    file = options.out / f"{arm.name.replace(' ', '-')}-s{seed}.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    model, done = made(arm, seed, options)
    found = quality.figures(quality.compare(model, original), original)
    found["made"] = {name: done.manifest["metrics"].get(name) for name in ("bytes", "share_kept", "error")}
    file.write_text(json.dumps(found, indent=1), encoding="utf-8")
    shutil.rmtree(done.path)
    return found


def row(arm: Arm, found: list[dict[str, Any]]) -> str:
    """A line of the table."""
    changes = [100 * (one["all"]["perplexity"] / one["all"]["original_perplexity"] - 1) for one in found]
    first = spread(changes)
    if not arm.drawn:
        loss = found[0]["all"]["loss"]
        first += f" ({100 * loss['low']:.2f} to {100 * loss['high']:.2f})"
    kl = spread([1000 * one["all"]["kl"]["mean"] for one in found])
    agreement = spread([100 * one["all"]["agreement"]["mean"] for one in found])
    kept = found[0]["made"]["share_kept"]
    return f"| {arm.name} | {first} | {kl} | {agreement} | {'' if kept is None else f'{kept:.2f}'} |"


def speed(options: argparse.Namespace) -> None:
    """Print tokens a second of the model and of its factors, one after the other, turn by turn."""
    from luhuo.compress.measures.speed import speeds
    from luhuo.core.artifact import produce
    from luhuo.model.load import load_decoder
    from luhuo.stages import configured

    values = {"model": str(options.model), "method": "svd", "refit": False, "allocation": "uniform"}
    values |= {"ratio": options.ratio, "multiple": 16}
    done = produce("factorise", configured("factorise", values), options.out / "models" / "speed")
    for dtype in ("fp32", "bf16"):
        models = {"whole": load_decoder(options.model, dtype, "cpu"), "factors": load_decoder(done.path, dtype, "cpu")}
        found = speeds(models, prompt=options.prompt, new=options.new, turns=options.turns)
        print(f"{dtype}, ratio {options.ratio:g}: {found}")


def main() -> None:
    """Read the options, and measure quality or speed."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="with base, shards and text")
    parser.add_argument("--model", type=Path, help="another model than RUN/base")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--ratios", default="0.9,0.8,0.6")
    parser.add_argument("--bits", default="4,3")
    parser.add_argument("--only", default="", help="names as in the table, such as svd 0.8,rtn w3")
    parser.add_argument("--rank", type=int, default=16, help="of LQER's corrections")
    parser.add_argument("--sequences", type=int, default=128)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=60_000, help="of held-out text")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/low_rank"))
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--ratio", type=float, default=0.5, help="with --speed")
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    options.model = options.model or options.run / "base"
    options.out.mkdir(parents=True, exist_ok=True)
    (speed if options.speed else table)(options)


def table(options: argparse.Namespace) -> None:
    """Make what is missing, and print a line an arm."""
    from luhuo.compress.measures import passages, quality
    from luhuo.model.load import load_decoder

    model = load_decoder(options.model, "fp32", "cpu")
    held = passages.select(options.run / "text", quality.tokenizer_of(model), tokens=options.tokens, length=512)
    original = quality.read_original(model, held)
    ratios, bits = ([float(p) for p in options.ratios.split(",") if p], [int(p) for p in options.bits.split(",") if p])
    lines = ["| | perplexity, % | KL, mnat | agreement, % | share of the matrices |", "|---|---|---|---|---|"]
    chosen = options.only.split(",") if options.only else None
    for arm in arms(ratios, bits, options.rank):
        if chosen is not None and arm.name not in chosen:
            continue
        seeds = [int(part) for part in options.seeds.split(",")] if arm.drawn else [0]
        lines.append(row(arm, [measured(arm, seed, original, options) for seed in seeds]))
        print(lines[-1], flush=True)
    print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
