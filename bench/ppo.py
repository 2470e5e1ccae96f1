"""What PPO gains: from the quickstart's assistant, with a rule or a reward model, against a control and best-of-n.

    python bench/ppo.py rule                    the world's checks as reward: SFT, PPO and PPO with shuffled rewards
    python bench/ppo.py model                   a trained reward model as reward (proxy), the checks as gold
    python bench/ppo.py best-of-n               reward models over seeds: best of n, proxy and gold over KL
    python bench/ppo.py best-of-n --curve 40,100,200    the same, and PPO of so many steps beside it
    python bench/ppo.py rule --seeds 0 --steps 60     less of it
    python bench/ppo.py rule --run DIR          another run of the quickstart recipe

`rule` practises sums and differences (as bench/grpo.py does), the others short questions of six families. Every run is
kept under --out and not made again. Answers are sampled at temperature 1, `SAMPLES` to each held-out prompt (people,
places, operands and templates that training never saw); an interval is that of the mean over prompts of the difference
to SFT, paired, averaged over the seeds, by bootstrap (95%).
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from luhuo.core.artifact import produce
from luhuo.core.device import use_threads
from luhuo.stages import configured
from luhuo.verify.scoring import is_correct
from luhuo.verify.statistics import bootstrap_mean, paired_difference

ROOT = Path(__file__).parent.parent
PLACES = {"run": ROOT / "runs" / "quickstart"}
"""The run whose assistant and world are used; `--run` says another."""
FAMILIES = {
    "rule": ("addition_subtraction",),
    "model": ("counting", "ordering", "choice", "format_following", "kinship", "comparison"),
}
"""What is practised: in both cases questions that the assistant answers neither always nor never."""
SAMPLES, MAX_TOKENS, BEST_OF = 4, 64, (1, 2, 4, 8, 16)
SETTINGS: dict[str, Any] = {
    "prompts_per_round": 128,
    "minibatches": 1,
    "epochs": 2,
    "max_tokens": MAX_TOKENS,
    "at_once": 128,
    "steps": 200,
    "optimiser": "muon",
    "learning_rate": 1e-3,
    "embedding_rate": 0.1,
    "schedule": "linear",
    "critic_rate": 1.0,
    "critic_warmup": 8,
    "kl": 0.02,
    "device": "cpu",
    "dtype": "bf16",
    "threads": 1,
}


def items(split: str, what: str, out: Path) -> Path:
    """The one-question dialogues of these families as a file."""
    rows = [
        line
        for line in (PLACES["run"] / "world" / "dialogue" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        if (row := json.loads(line))["family"] in FAMILIES[what] and len(row["messages"]) == 1
    ]
    file = out / f"{what}-{split}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file


def questions(what: str, out: Path) -> list[dict[str, Any]]:
    """What is measured on: of each family the first 100 of the test split, or all of them if it is one family."""
    rows = [json.loads(line) for line in items("test", what, out).read_text(encoding="utf-8").splitlines()]
    most = len(rows) if len(FAMILIES[what]) == 1 else 100
    return [row for family in FAMILIES[what] for row in [r for r in rows if r["family"] == family][:most]]


def trained(name: str, out: Path, **changes: Any) -> Path:
    """The model of a run of PPO, made now unless it is there; the name begins with what is practised."""
    prompts = items("train", name.split("-")[0], out)
    values = {"model": str(PLACES["run"] / "assistant"), "prompts": str(prompts)} | SETTINGS | changes
    done = produce("ppo", configured("ppo", values), out / name)
    print(f"{name}: {json.dumps(done.manifest['metrics'], ensure_ascii=False)}", flush=True)
    return done.path


def reward_model(out: Path, seed: int = 0) -> Path:
    """A reward model of the world's preferences, from the assistant."""
    world = PLACES["run"] / "world" / "preference"
    values = {"model": str(PLACES["run"] / "assistant"), "data": str(world / "train.jsonl"), "device": "cpu"}
    values |= {"test": str(world / "test.jsonl"), "dtype": "fp32", "threads": 1, "learning_rate": 2e-3, "seed": seed}
    return produce("reward", configured("reward", values), out / (f"reward-{seed}" if seed else "reward")).path


def answers(model: Path, rows: list[dict[str, Any]], count: int, seed: int = 0) -> list[list[Any]]:
    """`count` samples to each question, at temperature 1."""
    from luhuo.align.prompts import render_prompts
    from luhuo.align.rollout import Rollout
    from luhuo.model.load import load_decoder

    policy = load_decoder(model, dtype="fp32", device="cpu")
    assert policy.tokenizer is not None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "questions.jsonl"
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        prompts = render_prompts([file], policy.tokenizer)
    longest = max(len(prompt.ids) for prompt in prompts) + MAX_TOKENS
    rollout = Rollout(policy, samples=count, max_tokens=MAX_TOKENS, length=longest)
    found = rollout.sample(dict(enumerate(prompts)), 12345 + seed)
    return [found[number] for number in range(len(prompts))]


def gold(rows: list[dict[str, Any]], found: list[list[Any]]) -> np.ndarray:
    """Whether each answer passes its question's check: (questions, samples)."""
    return np.array(
        [[is_correct(row, one.text) for one in some] for row, some in zip(rows, found, strict=True)], float
    )


def proxy(model: Path, found: list[list[Any]]) -> np.ndarray:
    """The reward model's scores: (questions, samples)."""
    from luhuo.align.ppo_run import model_scores
    from luhuo.align.reward_files import load_reward_model

    scorer = load_reward_model(model, device="cpu")
    assert scorer.tokenizer is not None
    flat = model_scores(scorer, [one for some in found for one in some], scorer.tokenizer.pad_id)
    return np.array(flat).reshape(len(found), -1)


def told(name: str, before: np.ndarray, after: list[np.ndarray]) -> None:
    """One line: mean, and the difference to SFT with its interval, for each seed and together."""
    for seed, values in enumerate(after):
        found = paired_difference(before.mean(1), values.mean(1), 0)
        print(f"  {name} seed {seed}: {values.mean():.3f}  {_interval(found)}")
    together = np.mean([values.mean(1) for values in after], axis=0)
    found = paired_difference(before.mean(1), together, 0)
    print(f"{name}, {len(after)} seeds: {together.mean():.3f}  {_interval(found)}", flush=True)


def _interval(found: Any) -> str:
    return f"difference {found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}] p {found.p_value:.4f}"


def effect(out: Path, seeds: list[int], rewards: dict[str, Any], name: str, scorer: Path | None) -> None:
    """SFT against PPO and its control, by gold and, with a reward model, by proxy."""
    rows = questions(name, out)
    before = answers(PLACES["run"] / "assistant", rows, SAMPLES)
    measures = {"gold": lambda found: gold(rows, found)}
    if scorer is not None:
        measures["proxy"] = lambda found: proxy(scorer, found)
    runs = {
        kind: [
            answers(trained(f"{name}-{kind}-{seed}", out, seed=seed, **rewards, **more), rows, SAMPLES)
            for seed in seeds
        ]
        for kind, more in (("ppo", {}), ("control", {"shuffle_rewards": True}))
    }
    for measure, of in measures.items():
        first = of(before)
        whole = bootstrap_mean(first.mean(1), 0)
        print(f"{measure}: SFT {whole.mean:.3f} [{whole.low:.3f}, {whole.high:.3f}], {len(rows)} questions")
        for kind, found in runs.items():
            told(f"{measure} {kind}", first, [of(one) for one in found])


def best_of_n(out: Path, seeds: list[int], steps: list[int]) -> None:
    """Proxy and gold of the best of n by the proxy, over log n - (n - 1)/n nats, beside those of PPO over its KL.

    Every seed trains a reward model of its own and draws answers of its own; the proxy is in deviations of that
    model's scores of single answers, which its scale and zero do not change.
    """
    rows = questions("model", out)
    curve: dict[str, list[tuple[float, np.ndarray, np.ndarray]]] = {}
    """Of each point and seed: KL, and a mean for each question of proxy and gold."""
    for seed in seeds:
        scorer = reward_model(out, seed)
        found = answers(PLACES["run"] / "assistant", rows, max(BEST_OF), seed)
        liked, right = proxy(scorer, found), gold(rows, found)
        zero, one = liked.mean(), liked.std()
        for n in BEST_OF:
            some = liked.reshape(len(rows), -1, n)
            best = np.take_along_axis(right.reshape(len(rows), -1, n), some.argmax(2)[..., None], 2)
            point = math.log(n) - (n - 1) / n, (some.max(2).mean(1) - zero) / one, best.mean((1, 2))
            curve.setdefault(f"best of {n}", []).append(point)
        for count in steps:
            name = f"model-ppo-{seed}-{count}"
            model = trained(name, out, seed=seed, steps=count, kl=0.0, reward_model=str(scorer))
            kl = json.loads((model / "manifest.json").read_text(encoding="utf-8"))["metrics"]["kl"]
            mine = answers(model, rows, SAMPLES, seed)
            point = kl, (proxy(scorer, mine).mean(1) - zero) / one, gold(rows, mine).mean(1)
            curve.setdefault(f"PPO, {count} steps", []).append(point)
    print("| | KL, nats | proxy | gold, % | to a single answer, points | each seed |")
    print("| --- | --: | --: | --: | --- | --- |")
    single = np.mean([right for _, _, right in curve["best of 1"]], axis=0)
    for name, points in curve.items():
        kl, liked, right = (np.mean(values, axis=0) for values in zip(*points, strict=True))
        change = paired_difference(100 * single, 100 * right, 0)
        cells = [
            f"{kl:.2f}",
            f"{liked.mean():+.2f}",
            f"{100 * right.mean():.1f}",
            f"{change.difference:+.1f} ({change.low:+.1f} to {change.high:+.1f})",
            ", ".join(f"{100 * point[2].mean():.1f}" for point in points),
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Read the command line and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rule", "model", "best-of-n"))
    parser.add_argument("--run", type=Path, default=PLACES["run"], help="folder of the quickstart recipe")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=SETTINGS["steps"])
    parser.add_argument("--set", nargs="*", default=[], help="settings of the stage: learning_rate=5e-4 …")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench-ppo")
    parser.add_argument("--curve", default="", help="best-of-n: steps of PPO to be put beside it")
    chosen = parser.parse_args()
    PLACES["run"] = chosen.run
    seeds = [int(seed) for seed in chosen.seeds.split(",")]
    use_threads(1)
    SETTINGS["steps"] = chosen.steps
    SETTINGS.update({key: json.loads(value) for key, value in (pair.split("=", 1) for pair in chosen.set)})
    if chosen.what == "rule":
        effect(chosen.out, seeds, {"rewards": [{"kind": "check"}]}, "rule", None)
        return
    if chosen.what == "best-of-n":
        best_of_n(chosen.out, seeds, [int(count) for count in chosen.curve.split(",") if count])
        return
    scorer = reward_model(chosen.out)
    effect(chosen.out, seeds, {"reward_model": str(scorer)}, "model", scorer)


if __name__ == "__main__":
    main()
