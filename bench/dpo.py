"""Preference optimisation: does it teach what was preferred, and how fast is it?

    python bench/dpo.py effect RUN [--seeds 0,1,2] [--stages dpo,kto,simpo] [--out DIR] [--set epochs=2 …]
    python bench/dpo.py speed [--shape smollm2] [--pairs 8] [--length 256] [--rounds 3] [--threads 0]

`effect`: pairs of the world (a right answer against one with a planted defect) from the assistant of a quickstart run
(RUN/assistant, RUN/world). Measured on the test split, whose entities and wordings never occur in training:
`told apart`, the share of pairs whose chosen answer gained more than the rejected one against the assistant (for the
assistant itself: whose chosen answer is the likelier by token), and `right`, the share of right answers when sampling
at temperature 1. Beside each run its control: chosen and rejected exchanged in a random half of the pairs. Intervals:
95%, by bootstrap over the items, whose values are means over the seeds.

`speed`: tokens a second of a DPO step on the shape of SmolLM2-135M with random weights, beside trl's DPOTrainer with
the same pairs, in alternating rounds; both with reference log-probabilities computed ahead. `speed` also compares the
log-probabilities of `align.log_probs` with the plain way (all logits, log_softmax, gather).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SETTINGS: dict[str, Any] = {
    "epochs": 1,
    "batch": 32,
    "learning_rate": 1e-4,
    "dtype": "bf16",
    "device": "cpu",
    "threads": 1,
    "checkpoint_every_s": 0,
}


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file."""
    with path.open(encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def train(run: Path, out: Path, stage: str, seed: int, shuffle: bool, changes: dict[str, Any]) -> float:
    """One run of a stage into `out`; processor seconds."""
    from luhuo.core.artifact import produce
    from luhuo.stages import configured

    values = SETTINGS | {"model": str(run / "assistant"), "data": str(run / "world" / "preference" / "train.jsonl")}
    values |= {"seed": seed, "shuffle_labels": shuffle} | changes
    start = time.process_time()
    produce(stage, configured(stage, values), out)
    return time.process_time() - start


def answers_scored(folder: Path, run: Path) -> tuple[np.ndarray, np.ndarray]:
    """(log-probabilities, tokens) of chosen and rejected of the test pairs: (pairs, 2) each."""
    from luhuo.align.preference.pairs import prepare_pairs
    from luhuo.align.preference.reference import answer_log_probs
    from luhuo.model.load import load_decoder
    from luhuo.train.ranks import Ranks

    model = load_decoder(folder, dtype="fp32", device="cpu").eval()
    assert model.tokenizer is not None
    file = run / "world" / "preference" / "test.jsonl"
    store = prepare_pairs([file], model.tokenizer, 512, overlong="drop", quarantine=print).units.store
    with tempfile.TemporaryDirectory() as scratch:
        values = answer_log_probs(model, store, Path(scratch), str(folder), Ranks())
    counts = np.array([int((store.get(number)[1] != 0).sum()) for number in range(len(store))])
    return values.reshape(-1, 2), counts.reshape(-1, 2)


def asked(folder: Path, items: list[dict[str, Any]], answers: int) -> np.ndarray:
    """Share of right answers of each item, of so many sampled at temperature 1."""
    from luhuo.inference.engine import Engine
    from luhuo.inference.sampling import Sampling
    from luhuo.model.load import load_decoder
    from luhuo.verify.scoring import is_correct

    engine = Engine(load_decoder(folder, dtype="fp32", device="cpu").eval(), max_batch=128, speculate="never")
    sampling = Sampling(max_tokens=48, temperature=1.0, top_k=0, top_p=1.0, n=answers, seed=0)
    found = engine.chat([item["messages"] for item in items], sampling)
    return np.array(
        [np.mean([is_correct(item, one.text) for one in out.choices]) for item, out in zip(items, found, strict=True)]
    )


def effect(options: argparse.Namespace) -> None:
    """Train and ask, and print a table."""
    import torch

    from luhuo.verify.statistics import bootstrap_mean, paired_difference

    torch.set_num_threads(1)
    run, out = Path(options.run), Path(options.out or tempfile.mkdtemp())
    changes = dict(change.split("=", 1) for change in options.set)
    items = read(run / "world" / "prompts" / "test.jsonl")
    pairs = read(run / "world" / "preference" / "test.jsonl")
    defects = sorted({pair["defect"] for pair in pairs})
    before, counts = answers_scored(run / "assistant", run)
    means = before / counts
    told, right = (
        {"assistant": (means[:, 0] > means[:, 1]).astype(float)},
        {"assistant": asked(run / "assistant", items, options.answers)},
    )
    for stage in options.stages.split(","):
        for name, shuffle in ((stage, False), (f"{stage}, labels shuffled", True)):
            gained, answered = [], []
            for seed in map(int, options.seeds.split(",")):
                folder = out / f"{stage}-{seed}{'-shuffled' * shuffle}"
                seconds = train(run, folder, stage, seed, shuffle, changes)
                after, _ = answers_scored(folder, run)
                change = (after - before) / (counts if stage == "simpo" else 1)
                gained.append((change[:, 0] > change[:, 1]).astype(float))
                answered.append(asked(folder, items, options.answers))
                print(
                    f"{name} seed {seed}: {seconds:.0f} s of processor, told apart {gained[-1].mean():.1%}, right "
                    f"{answered[-1].mean():.1%}; log-probability of the chosen {(after - before)[:, 0].mean():+.1f}",
                    file=sys.stderr,
                    flush=True,
                )
            told[name], right[name] = np.mean(gained, 0), np.mean(answered, 0)
    print("| model | told apart | right when sampling | against the assistant | p |")
    print("| --- | --- | --- | --- | --- |")
    for name, values in told.items():
        apart, sampled = bootstrap_mean(values, 0), bootstrap_mean(right[name], 0)
        versus = paired_difference(right["assistant"], right[name], 0)
        print(
            f"| {name} | {apart.mean:.1%} [{apart.low:.1%}, {apart.high:.1%}] "
            f"| {sampled.mean:.1%} [{sampled.low:.1%}, {sampled.high:.1%}] "
            f"| {100 * versus.difference:+.1f} [{100 * versus.low:+.1f}, {100 * versus.high:+.1f}] points "
            f"| {versus.p_value:.4f} |"
        )
    print("\n| told apart, by defect | " + " | ".join(told) + " |\n| --- |" + " --- |" * len(told))
    for defect in defects:
        those = np.array([pair["defect"] == defect for pair in pairs])
        print(
            f"| {defect} ({those.sum()}) | "
            + " | ".join(f"{values[those].mean():.1%}" for values in told.values())
            + " |"
        )


def texts(pairs: int, length: int, vocabulary: int) -> list[dict[str, list[int]]]:
    """Random pairs: a prompt of half the length, answers of a quarter to a half, as sets of preferences have them."""
    chance = np.random.default_rng(0)

    def ids(count: int) -> list[int]:
        return chance.integers(3, vocabulary, count).tolist()

    answers = [[ids(int(chance.integers(length // 4, length // 2))) for _ in range(2)] for _ in range(pairs)]
    return [{"prompt": ids(length // 2), "chosen": one, "rejected": other} for one, other in answers]


class Ours:
    """Our step: forward and backward passes, gradients' norm, AdamW."""

    def __init__(self, folder: Path, rows: list[dict[str, list[int]]], options: argparse.Namespace) -> None:
        import torch

        from luhuo.align.preference.dpo import DPO
        from luhuo.align.preference.reference import add_references
        from luhuo.align.preference.units import UnitLoader, Units
        from luhuo.core.memory import keep_freed_memory
        from luhuo.dialogue.render import Rendered
        from luhuo.model.load import load_decoder
        from luhuo.train import half_gradients
        from luhuo.train.config import TrainerConfig
        from luhuo.train.gradients import Gradients
        from luhuo.train.optimisers import Optimiser
        from luhuo.train.ranks import Ranks

        keep_freed_memory()
        units = Units()
        for row in rows:
            units.add(
                [
                    Rendered(row["prompt"] + row[side] + [2], [0] * len(row["prompt"]) + [1] * (len(row[side]) + 1))
                    for side in ("chosen", "rejected")
                ]
            )
        self.model = load_decoder(folder, dtype="fp32", device="cpu")
        self.model.compute_in(torch.bfloat16 if options.dtype == "bf16" else None)
        with tempfile.TemporaryDirectory() as scratch:
            add_references(self.model, units, Path(scratch), "random", Ranks())
        self.model.train()
        loader = UnitLoader(units, batch=len(units), length=units.row_length(), seed=0, pad_id=1)
        self.batch = {name: torch.from_numpy(array) for name, array in loader.assemble(range(len(units))).items()}
        config = TrainerConfig(steps=1, optimiser="adamw", learning_rate=1e-6, embedding_rate=1.0, weight_decay=0.0)
        self.gradients = Gradients(self.model, DPO(beta=0.1), Ranks(), options.micro)
        self.gradients.halves = half_gradients.matrices(self.model, "adamw")
        self.optimiser = Optimiser(self.model, config)

    def __call__(self) -> float:
        """Seconds of one step."""
        start = time.monotonic()
        self.gradients.compute(self.batch, 1)
        self.gradients.reduce(1.0)
        self.optimiser.step(1.0)
        self.model.zero_grad(set_to_none=True)
        return time.monotonic() - start


class Theirs:
    """trl's trainer, its own loop: seconds from the beginning of a step to its end."""

    def __init__(self, folder: Path, rows: list[dict[str, list[int]]], options: argparse.Namespace) -> None:
        import tokenizers
        import torch
        from datasets import Dataset
        from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
        from trl import DPOConfig, DPOTrainer

        words = {"<unknown>": 0, "<pad>": 1, "<end>": 2} | {f"w{i}": i for i in range(3, options.vocabulary)}
        core = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unknown>"))
        core.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<end>")
        plain = [{side: " ".join(f"w{i}" for i in ids) for side, ids in row.items()} for row in rows]
        times: list[float] = []

        class Clock(TrainerCallback):
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                times.append(-time.monotonic())

            def on_step_end(self, *_: Any, **__: Any) -> None:
                times[-1] += time.monotonic()

        micro = options.micro or len(rows)
        settings = DPOConfig(
            output_dir=tempfile.mkdtemp(),
            use_cpu=True,
            bf16=options.dtype == "bf16",
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=-(-len(rows) // micro),
            gradient_checkpointing=False,
            precompute_ref_log_probs=True,
            learning_rate=1e-6,
            weight_decay=0.0,
            max_length=None,
            max_steps=1,
            beta=0.1,
        )
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        data = Dataset.from_list(plain)
        self.trainer = DPOTrainer(model, args=settings, train_dataset=data, processing_class=tokenizer)
        self.trainer.add_callback(Clock())
        self.times = times

    def __call__(self) -> float:
        """Seconds of one step."""
        self.trainer.train()
        return self.times[-1]


def speed(options: argparse.Namespace) -> None:
    """Alternate both sides, and print medians and their ratio."""
    import torch
    from train_step import SHAPES

    from luhuo.core.device import cpu_threads
    from luhuo.model.decoder import Decoder
    from luhuo.model.initialise import initialise
    from luhuo.model.save import save

    torch.set_num_threads(options.threads or cpu_threads())
    config = SHAPES[options.shape][0]
    options.vocabulary = config.vocab_size
    rows = texts(options.pairs, options.length, config.vocab_size)
    tokens = sum(2 * len(row["prompt"]) + len(row["chosen"]) + len(row["rejected"]) + 2 for row in rows)
    with tempfile.TemporaryDirectory() as folder:
        save(initialise(Decoder(config), 0), folder)
        sides = {"luhuo": Ours(Path(folder), rows, options), "trl": Theirs(Path(folder), rows, options)}
        found: dict[str, list[float]] = {name: [] for name in sides}
        for side in sides.values():
            side()  # the first step makes buffers and states
        for turn in range(options.rounds):
            for name, side in sides.items():
                found[name].append(side())
                print(f"round {turn + 1} {name:6} {tokens / found[name][-1]:9.0f} tokens/s", flush=True)
    rates = {name: tokens / statistics.median(seconds) for name, seconds in found.items()}
    print(f"{tokens} tokens a step; " + ", ".join(f"{name} {rate:.0f} tokens/s" for name, rate in rates.items()))
    print(f"luhuo / trl: {rates['luhuo'] / rates['trl']:.2f}")
    _log_probs(config, options)


def _log_probs(config: Any, options: argparse.Namespace) -> None:
    """Seconds of log-probabilities and their gradients, in chunks and plainly."""
    import torch

    from luhuo.align.log_probs import selected_log_probs
    from luhuo.model.decoder import Decoder
    from luhuo.model.initialise import initialise

    model = initialise(Decoder(config), 0)
    dtype = torch.bfloat16 if options.dtype == "bf16" else torch.float32
    states = torch.randn(1024, config.hidden_size, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, config.vocab_size, (1024,))

    def plain() -> torch.Tensor:
        logits = torch.nn.functional.linear(states, model.head_weight.to(dtype)).float()
        return logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]

    for name, make in (("in chunks", lambda: selected_log_probs(model, states, targets)[0]), ("plainly", plain)):
        seconds = []
        for _ in range(options.rounds + 1):
            start = time.monotonic()
            make().sum().backward()
            seconds.append(time.monotonic() - start)
        print(f"1024 log-probabilities {name}: {statistics.median(seconds[1:]):.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("effect")
    one.add_argument("run")
    one.add_argument("--seeds", default="0,1,2")
    one.add_argument("--stages", default="dpo")
    one.add_argument("--answers", type=int, default=4, help="sampled of each held-out question")
    one.add_argument("--out")
    one.add_argument("--set", nargs="*", default=[], help="fields of the stage: key=value")
    one.set_defaults(work=effect)
    two = commands.add_parser("speed")
    two.add_argument("--shape", default="smollm2", help="of bench/train_step.py")
    two.add_argument("--pairs", type=int, default=8)
    two.add_argument("--length", type=int, default=256, help="most tokens of a prompt with its answer")
    two.add_argument("--micro", type=int, default=0, help="rows (ours) or pairs (trl) of a pass; 0: all")
    two.add_argument("--dtype", choices=("fp32", "bf16"), default="bf16")
    two.add_argument("--rounds", type=int, default=3)
    two.add_argument("--threads", type=int, default=0)
    two.set_defaults(work=speed)
    options = parser.parse_args()
    options.work(options)


if __name__ == "__main__":
    main()
