"""Preference optimisation: does it teach what was preferred, and how fast is it?

    python bench/dpo.py effect RUN [--seeds 0,1,2] [--stages dpo,kto,simpo] [--out DIR] [--set epochs=2 …]
    python bench/dpo.py speed [--pairs 8] [--length 256] [--rounds 3] [--threads 0]

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
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "batch": 32,
    "learning_rate": 1e-4,
    "dtype": "fp32",
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
    options = parser.parse_args()
    effect(options)


if __name__ == "__main__":
    main()
