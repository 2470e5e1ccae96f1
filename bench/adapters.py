"""Every adapter on one task, at tuned learning rates: score, trained numbers, time and memory.

    python bench/adapters.py table RUN [--methods lora,ia3] [--seeds 0,1,2] [--steps 200] [--out DIR]
    python bench/adapters.py lora RUN [--kind lora+] [--seeds 0,1,2] [--steps 400] [--rank 8] [--rate R]
        [--full-rate R] [--out DIR]

RUN is a folder of the quickstart recipe. The task: the assistant (RUN/assistant) is fine-tuned on the arithmetic of
the world's train split and asked that of the test split, whose operands and wordings never occur in training; answers
are greedy and strictly read. `table` trains each method at every rate of its row below for a third of the steps with
the first seed, and at further ones where the best (by loss on held-out conversations) is the smallest or the largest;
the best is trained for all steps with every seed. `lora` compares a kind of LoRA with full fine-tuning over seeds, the
rates of both searched likewise, by trainings of all steps. Every training is a process of its own; its processor
seconds and peak memory are told.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RATES = {
    "full": (5e-4, 1e-3, 2e-3),
    "lora": (3e-3, 1e-2, 3e-2),
    "rslora": (1e-3, 3e-3, 1e-2),
    "lora+": (5e-4, 1e-3, 3e-3),
    "pissa": (1e-3, 3e-3, 1e-2),
    "olora": (3e-4, 1e-3, 3e-3),
    "qlora": (3e-3, 1e-2, 3e-2),
    "dora": (1e-3, 3e-3, 1e-2),
    "adalora": (1e-2, 3e-2, 1e-1),
    "dylora": (1e-3, 3e-3, 1e-2),
    "vera": (3e-2, 1e-1, 3e-1),
    "ia3": (3e-2, 1e-1, 3e-1),
    "houlsby": (3e-3, 1e-2, 3e-2),
    "pfeiffer": (3e-3, 1e-2, 3e-2),
    "prefix": (1e-2, 3e-2, 1e-1),
    "p-tuning-v2": (3e-2, 1e-1, 3e-1),
    "prompt": (3e-2, 1e-1, 3e-1),
    "bitfit": (1e-2, 3e-2, 1e-1),
    "child-f": (1e-3, 2e-3, 4e-3),
    "child-d": (5e-4, 1e-3, 2e-3),
    "fishmask": (1e-3, 3e-3, 1e-2),
}
"""Learning rates of what is trained (not relative to another)."""
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora", "rank": 8},
    "rslora": {"method": "lora", "rank": 8, "rslora": True},
    "lora+": {"method": "lora", "rank": 8, "lora_plus": 16},
    "pissa": {"method": "lora", "rank": 8, "init": "pissa"},
    "olora": {"method": "lora", "rank": 8, "init": "olora"},
    "qlora": {"method": "lora", "rank": 8, "base": "int4"},
    "dora": {"method": "dora", "rank": 8},
    "adalora": {"method": "adalora", "rank": 8},
    "dylora": {"method": "dylora", "rank": 8},
    "vera": {"method": "vera", "rank": 64},
    "houlsby": {"method": "houlsby", "rank": 16},
    "pfeiffer": {"method": "pfeiffer", "rank": 16},
    "prefix": {"method": "prefix", "rank": 64},
}


def one(wanted: dict[str, Any]) -> None:
    """Train, ask, and print what came of it as JSON. Runs in a process of its own."""
    import torch

    torch.set_num_threads(1)
    from grpo import ask

    from luhuo.core.artifact import produce
    from luhuo.stages import configured

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    done = produce("sft", configured("sft", wanted["stage"]), Path(wanted["out"]))
    seconds = time.process_time() - start
    told: dict[str, Any] = {
        "seconds": seconds,
        "loss": done.manifest["metrics"]["valid.loss"],
        "before": before / 1024,
    }
    told["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if wanted["items"]:
        items = [json.loads(line) for line in Path(wanted["items"]).read_text(encoding="utf-8").splitlines()]
        told["right"] = [strict for strict, _ in ask(done.path, items)]
    print("\n" + json.dumps(told))


def trained(options: argparse.Namespace, method: str, rate: float, seed: int, steps: int, ask: bool) -> dict[str, Any]:
    """What came of one training; kept, and not made again."""
    out: Path = options.out
    name = f"{method}-{rate:g}-{seed}-{steps}"
    kept = out / f"{name}.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    adapter = None if method == "full" else SETTINGS.get(method, {"method": method}) | {"rate": 1.0}
    if adapter is not None and options.rank and "rank" in adapter:
        adapter["rank"] = options.rank
    stage = {"model": str(options.run / "assistant"), "data": str(out / "train.jsonl"), "adapter": adapter}
    stage |= {"valid": str(out / "valid.jsonl"), "eval_every": steps, "steps": steps, "seed": seed, "threads": 1}
    stage |= {"batch": 2048, "length": 256, "learning_rate": rate, "device": "cpu", "checkpoint_every_s": 0}
    wanted = {"stage": stage, "out": str(out / name), "items": str(out / "test.jsonl") if ask else ""}
    command = [sys.executable, __file__, "one", json.dumps(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    found["numbers"] = numbers(out / name)
    kept.write_text(json.dumps(found), encoding="utf-8")
    return found


def numbers(folder: Path) -> int:
    """How many numbers the result holds beside the model below; of full fine-tuning, all."""
    from safetensors import safe_open

    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        file = folder / "model.safetensors"
    total = 0
    with safe_open(file, "pt") as handle:
        for name in handle.keys():  # noqa: SIM118
            size = 1
            for length in handle.get_slice(name).get_shape():
                size *= length
            total += size
    return total


def prepared(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The files of the task; its test items."""
    from grpo import rows

    options.out.mkdir(parents=True, exist_ok=True)
    for split in ("train", "valid", "test"):
        found = rows(options.run / f"world/dialogue/{split}.jsonl")
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
        (options.out / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return rows(options.run / "world/dialogue/test.jsonl")


def before(options: argparse.Namespace, items: list[dict[str, Any]]) -> list[bool]:
    """What the assistant answers rightly before it is fine-tuned."""
    from grpo import ask

    return [strict for strict, _ in ask(options.run / "assistant", items)]


def table(options: argparse.Namespace) -> None:
    """All methods: search a rate, then train with every seed, and print a row each."""
    from luhuo.verify.statistics import bootstrap_mean

    items = prepared(options)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    start = 100 * statistics.mean(before(options, items))
    print(f"before: {start:.1f}% of {len(items)} questions; {options.steps} steps of 2,048 tokens, seeds {seeds}\n")
    print("| method | rate | held-out loss | score | 95% interval | each seed | numbers | share | cpu s | peak MB |")
    print("| --- | --: | --: | --: | --- | --- | --: | --: | --: | --: |", flush=True)
    whole = 0
    for method in options.methods.split(",") if options.methods else RATES:
        rate = best_rate(options, method, seeds[0], options.steps // 3)
        runs = [trained(options, method, rate, seed, options.steps, True) for seed in seeds]
        numbers = runs[0]["numbers"]
        whole = numbers if method == "full" else whole
        score = bootstrap_mean(
            [statistics.mean(answers) for answers in zip(*(r["right"] for r in runs), strict=True)], 0
        )
        share = f"{numbers / whole:.2%}" if whole else ""
        interval = f"{100 * score.low:.1f} to {100 * score.high:.1f}"
        each = ", ".join(f"{100 * statistics.mean(run['right']):.1f}" for run in runs)
        cells = [method, f"{rate:g}", f"{mean_of(runs, 'loss'):.4f}", f"{100 * score.mean:.1f}", interval, each]
        cells += [f"{numbers:,}", share, f"{mean_of(runs, 'seconds'):.0f}", f"{max(run['peak'] for run in runs):.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def mean_of(runs: list[dict[str, Any]], key: str) -> float:
    """The mean over the seeds."""
    return statistics.mean(run[key] for run in runs)


def best_rate(options: argparse.Namespace, method: str, seed: int, steps: int) -> float:
    """The rate with the least held-out loss; up to two further ones are tried where it lies at an end of its row."""
    tried: dict[float, float] = {}
    rates = list(RATES[method])
    while rates:
        for rate in rates:
            tried[rate] = trained(options, method, rate, seed, steps, steps == options.steps)["loss"]
        best = min(tried, key=lambda rate: tried[rate])
        below, above = sorted(rate for rate in tried if rate < best), sorted(rate for rate in tried if rate > best)
        ended = (below and above) or len(tried) >= len(RATES[method]) + 2
        rates = [] if ended else [float(f"{best * best / (below[-1] if below else above[0]):.1g}")]
    print(f"{method}: held-out loss", {rate: round(loss, 5) for rate, loss in sorted(tried.items())}, file=sys.stderr)
    return best


def lora(options: argparse.Namespace) -> None:
    """LoRA against full fine-tuning, several seeds, paired."""
    from luhuo.verify.statistics import paired_difference

    items = prepared(options)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    print(f"before: {100 * statistics.mean(before(options, items)):.1f}% of {len(items)} questions")
    shares: dict[str, list[float]] = {}
    for method, told in (("full", options.full_rate), (options.kind, options.rate)):
        rate = told or best_rate(options, method, seeds[0], options.steps)
        runs = [trained(options, method, rate, seed, options.steps, True) for seed in seeds]
        each = [100 * statistics.mean(run["right"]) for run in runs]
        shares[method] = [statistics.mean(values) for values in zip(*(run["right"] for run in runs), strict=True)]
        print(
            f"{method:5} {statistics.mean(each):5.1f}   {', '.join(f'{value:.1f}' for value in each)}   "
            f"rate {rate:g}, held-out loss {mean_of(runs, 'loss'):.5f}, {runs[0]['numbers']:,} numbers, "
            f"{mean_of(runs, 'seconds'):.0f} s, {max(run['peak'] for run in runs):.0f} MB",
            flush=True,
        )
    gap = paired_difference(shares["full"], shares[options.kind], seed=0)
    print(
        f"{options.kind} over full: {100 * gap.difference:+.1f} points [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"
    )


def main() -> None:
    """Read the command line."""
    if sys.argv[1:2] == ["one"]:
        one(json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("table", "lora"))
    parser.add_argument("run", type=Path)
    parser.add_argument("--methods", default="")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--kind", default="lora", help="of the table's methods, to be compared with full fine-tuning")
    parser.add_argument("--rate", type=float, default=0, help="of LoRA; 0: searched")
    parser.add_argument("--full-rate", type=float, default=0, help="of full fine-tuning; 0: searched")
    parser.add_argument("--rank", type=int, default=0, help="instead of the table's")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/adapters"))
    options = parser.parse_args()
    {"table": table, "lora": lora}[options.what](options)


if __name__ == "__main__":
    main()
