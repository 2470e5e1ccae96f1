"""Reinforcement learning without a critic: does it teach anything, and how fast is it?

    python bench/grpo.py effect RUN [--methods grpo,rloo] [--seeds 0,1,2] [--out DIR] [--set steps=120 …]
    python bench/grpo.py speed [--steps 2] [--turns 3] [--dtype bf16] [--threads 0]

`effect`: sums and differences of the world from the assistant of a quickstart run (RUN/assistant, RUN/world). The
policy is trained on questions of the train split and asked those of the test split, whose operands and wordings never
occur in training; word problems, which it is not trained on, show what becomes of a neighbour. Every method is run
with each seed, and beside it the control with shuffled rewards. Answers are greedy and read twice: strictly (the
answer stated) and leniently (the number anywhere). Intervals: over the test items by bootstrap for a single run, and
over all runs of a method by pairing each item with the assistant's own answer.

`speed`: samples a second of a whole GRPO step (generate, score, update) on the shape of SmolLM2-135M with random
weights, beside trl's GRPOTrainer with the same prompts, samples, lengths, rewards and number format. Random weights do
not end their answers, so all have `max_tokens` tokens in both; scores differ in every group, so that both learn from
all samples.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FAMILIES = ("addition_subtraction", "word_problem")
LEARNED = "addition_subtraction"
"""What is trained and counted; word problems show what it does to a neighbour."""
SETTINGS: dict[str, Any] = {
    "steps": 200,
    "prompts_per_round": 32,
    "samples": 8,
    "max_tokens": 64,
    "optimiser": "muon",
    "learning_rate": 1.5e-3,
    "embedding_rate": 0.1,
    "schedule": "linear",
    "micro_batch": 64,
    "at_once": 256,
    "eval_every": 0,
    "threads": 1,
}


def rows(path: Path, families: tuple[str, ...] = FAMILIES) -> list[dict[str, Any]]:
    """The arithmetic items of a file of the world, those of one question."""
    with path.open(encoding="utf-8") as handle:
        found = [json.loads(line) for line in handle]
    return [row for row in found if row["family"] in families and len(row["messages"]) == 1]


def ask(folder: Path, items: list[dict[str, Any]]) -> list[tuple[bool, bool]]:
    """(strictly right, leniently right) of each item, answered greedily."""
    from luhuo.adapter.open import open_decoder
    from luhuo.inference.engine import Engine
    from luhuo.inference.sampling import Sampling
    from luhuo.verify.checks import match

    engine = Engine(open_decoder(str(folder), dtype="fp32", device="cpu").eval(), max_batch=128, speculate="never")
    answers = engine.chat([item["messages"] for item in items], Sampling(max_tokens=80, temperature=0))
    found = [match(item, answer.text) for item, answer in zip(items, answers, strict=True)]
    return [(one.strict, one.lenient) for one in found]


def train(run: Path, data: Path, out: Path, method: str, seed: int, shuffle: bool, changes: dict[str, Any]) -> float:
    """One run of the stage into `out` on data/train.jsonl; processor seconds, 0 if it was there already."""
    from luhuo.align.grpo_stage import GrpoStage
    from luhuo.core.artifact import produce

    values = SETTINGS | {"model": str(run / "assistant"), "rewards": [{"kind": "check"}]}
    values |= {"prompts": str(data / "train.jsonl"), "valid": str(data / "valid.jsonl")}
    values |= {"method": method, "seed": seed, "shuffle_rewards": shuffle} | changes
    start = time.process_time()
    produce("grpo", GrpoStage.parse(values), out)
    return time.process_time() - start


def effect(options: argparse.Namespace) -> None:
    """Train and ask, and print a table."""
    import torch

    from luhuo.core.atomic import write_text
    from luhuo.verify.statistics import paired_difference

    torch.set_num_threads(1)
    run, out = Path(options.run), Path(options.out or tempfile.mkdtemp(prefix="grpo-"))
    out.mkdir(parents=True, exist_ok=True)
    for split in ("train", "valid"):
        found = rows(run / f"world/dialogue/{split}.jsonl", (LEARNED,))
        write_text(out / f"{split}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found))
    items = rows(run / "world/dialogue/test.jsonl", (LEARNED,))
    others = rows(run / "world/dialogue/test.jsonl", FAMILIES[1:])
    before = ask(run / "assistant", items)
    changes = {key: json.loads(value) for key, value in (pair.split("=", 1) for pair in options.set)}
    print(f"{len(items)} questions; settings {json.dumps(SETTINGS | changes)}", flush=True)
    print(f"{'':34} {'strict':>24} {'lenient':>8} {'cpu s':>6}", flush=True)
    show("assistant", [before], 0.0)
    show("    word problems", [ask(run / "assistant", others)], 0.0)
    for method in options.methods.split(","):
        for shuffle in {"both": (False, True), "real": (False,), "control": (True,)}[options.arms]:
            name = f"{method}{' shuffled' if shuffle else ''}"
            found = []
            for seed in map(int, options.seeds.split(",")):
                folder = out / f"{name.replace(' ', '-')}-{seed}"
                seconds = train(run, out, folder, method, seed, shuffle, changes)
                found.append(ask(folder, items))
                show(f"{name} seed {seed}", found[-1:], seconds)
                show("    word problems", [ask(folder, others)], 0.0)
            # Each item's share right over the seeds, against the assistant's answer to it.
            shares = [statistics.mean(one[i][0] for one in found) for i in range(len(items))]
            gain = paired_difference([float(one[0]) for one in before], shares, seed=0)
            show(name, found, 0.0)
            interval = f"[{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
            print(f"{name} over the assistant: {100 * gain.difference:+.1f} points {interval}, p {gain.p_value:.4f}")


def show(name: str, runs: list[list[tuple[bool, bool]]], seconds: float) -> None:
    """One line: strict with its interval over items, lenient, time."""
    from luhuo.verify.statistics import bootstrap_mean

    strict, lenient = (
        [statistics.mean(float(run[i][kind]) for run in runs) for i in range(len(runs[0]))] for kind in (0, 1)
    )
    found = bootstrap_mean(strict, seed=0)
    shown = f"{100 * found.mean:5.1f} [{100 * found.low:5.1f}, {100 * found.high:5.1f}]"
    print(f"{name:34} {shown:>24} {100 * statistics.mean(lenient):8.1f} {seconds:6.0f}", flush=True)


class Ours:
    """One GRPO step of Luhuo after the other, on a model directory."""

    def __init__(self, folder: Path, prompts: Path, options: argparse.Namespace) -> None:
        from luhuo.align.grpo_stage import GrpoStage

        function = prompts.with_name("reward.py")
        function.write_text("def reward(item, text, info):\n    return len(text) % 7\n", encoding="utf-8")
        self.values = {
            "model": str(folder),
            "prompts": str(prompts),
            "rewards": [{"kind": "function", "file": str(function)}],
            "prompts_per_round": options.samples // options.group,
            "samples": options.group,
            "max_tokens": options.tokens,
            "at_once": options.samples,
            "micro_batch": options.micro,
            "learning_rate": 1e-6,
            "dtype": options.dtype,
            "threads": options.threads,
            "checkpoint_every_s": 0,
        }
        self.stage = GrpoStage

    def __call__(self, steps: int) -> list[float]:
        """Seconds of each step, the first (warm-up) left out."""
        from luhuo.core.artifact import Workspace
        from luhuo.core.metrics import MetricsLog

        with tempfile.TemporaryDirectory() as folder:
            out = Workspace(Path(folder), MetricsLog(Path(folder) / "metrics.jsonl"))
            self.stage.parse(self.values | {"steps": steps + 1}).run(out)
            rows = out.metrics.read()
        told(rows[-1])
        return [row["step_ms"] / 1000 for row in rows if "step_ms" in row][1:]


def told(row: dict[str, float]) -> None:
    """How the last step's time is divided, and how long its answers were."""
    parts = ("generate", "score", "log_probs", "update")
    print("    " + ", ".join(f"{part} {row[f'time.{part}']:.2f} s" for part in parts), f"length {row['length']:.1f}")


class Theirs:
    """The same with trl's GRPOTrainer on transformers' model."""

    def __init__(self, folder: Path, prompts: Path, options: argparse.Namespace) -> None:
        self.folder, self.options = folder, options
        with prompts.open(encoding="utf-8") as handle:
            self.rows = [{"prompt": json.loads(line)["messages"]} for line in handle]

    def __call__(self, steps: int) -> list[float]:
        """Seconds of each step, the first (warm-up) left out."""
        import torch
        from datasets import Dataset
        from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
        from trl import GRPOConfig, GRPOTrainer

        options, stamps = self.options, [time.perf_counter()]

        class Clock(TrainerCallback):
            def on_step_end(self, *args: Any, **kwargs: Any) -> None:
                stamps.append(time.perf_counter())

        with tempfile.TemporaryDirectory() as folder:
            config = GRPOConfig(
                output_dir=folder,
                max_steps=steps + 1,
                per_device_train_batch_size=options.micro,
                gradient_accumulation_steps=options.samples // options.micro,
                num_generations=options.group,
                max_completion_length=options.tokens,
                learning_rate=1e-6,
                beta=0.0,
                temperature=1.0,
                bf16=options.dtype == "bf16",
                use_cpu=True,
                gradient_checkpointing=False,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
            )
            model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32)
            trainer = GRPOTrainer(
                model,
                reward_funcs=lambda completions, **_: [float(len(one[0]["content"]) % 7) for one in completions],
                args=config,
                train_dataset=Dataset.from_list(self.rows),
                processing_class=AutoTokenizer.from_pretrained(self.folder),
                callbacks=[Clock()],
            )
            stamps[:] = [time.perf_counter()]
            trainer.train()
        return [later - earlier for earlier, later in itertools.pairwise(stamps)][1:]


def speed(options: argparse.Namespace) -> None:
    """Alternate both sides, and print medians and their ratio."""
    import torch

    from luhuo.core.device import cpu_threads
    from luhuo.model.initialise import initialise
    from luhuo.model.load import load_decoder
    from luhuo.model.save import save

    options.threads = options.threads or cpu_threads()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = load_decoder(options.model, dtype="fp32", device="cpu")
        save(initialise(model, 0), folder / "model")
        del model
        prompts = folder / "prompts.jsonl"
        asked = ({"messages": [{"role": "user", "content": f"What is {n} plus {n + 3}?"}]} for n in range(512))
        prompts.write_text("".join(json.dumps(row) + "\n" for row in asked), encoding="utf-8")
        sides = {"luhuo": Ours(folder / "model", prompts, options), "trl": Theirs(folder / "model", prompts, options)}
        found: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(options.turns):
            for side, run in sides.items():
                found[side] += run(options.steps)
                rate = options.samples / statistics.median(found[side])
                print(f"turn {turn + 1} {side:6} {rate:8.2f} samples/s", flush=True)
    rates = {side: options.samples / statistics.median(seconds) for side, seconds in found.items()}
    print(f"luhuo / trl: {rates['luhuo'] / rates['trl']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("effect")
    one.add_argument("run")
    one.add_argument("--methods", default="grpo")
    one.add_argument("--seeds", default="0,1,2")
    one.add_argument("--arms", choices=("both", "real", "control"), default="both")
    one.add_argument("--out", default="", help="kept; what is finished in it is not done again")
    one.add_argument("--set", nargs="*", default=[])
    one.set_defaults(work=effect)
    two = parts.add_parser("speed")
    two.add_argument("--model", default="smollm2-135m-instruct", help="its shape and tokenizer; weights are random")
    two.add_argument("--samples", type=int, default=32, help="a step")
    two.add_argument("--group", type=int, default=8)
    two.add_argument("--micro", type=int, default=8, help="rows of a training pass, in both")
    two.add_argument("--tokens", type=int, default=64)
    two.add_argument("--dtype", choices=("fp32", "bf16"), default="bf16")
    two.add_argument("--threads", type=int, default=0)
    two.add_argument("--steps", type=int, default=2)
    two.add_argument("--turns", type=int, default=3)
    two.set_defaults(work=speed)
    options = parser.parse_args()
    options.work(options)


if __name__ == "__main__":
    sys.exit(main())
