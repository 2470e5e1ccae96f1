"""How far judges agree with people: rules, a reward model trained here, SmolLM2-135M-Instruct, and recorded judges.

    python bench/judge_validation.py DATA --out runs/bench/judges [--limit 200] [--base runs/quickstart/assistant]

DATA is the folder of benchmark data (with `pandalm`, `xstest`, `pyrit_scorer_evals`, `gptfuzzer`,
`preference_pairs`, `hh_rlhf`). The reward model starts from `--base` and learns from the public pairs of
`preference_pairs` (English) and from 2,000 of `hh_rlhf`; none of them is in the sets it is measured on. SmolLM2 is
asked by our rubrics, with the probability of a letter. `--limit` items of each set (0: all) are judged, the same ones
by every judge; verdicts are cached, so a longer run goes on from a shorter one.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

from luhuo.core.artifact import produce
from luhuo.stages import configured

SETS = {"pandalm": "pandalm", "xstest": "xstest", "pyrit": "pyrit_scorer_evals", "gptfuzzer": "gptfuzzer"}


def main() -> None:
    """Train the reward model if it is not there, validate, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/judges"))
    parser.add_argument("--base", default="runs/quickstart/assistant", help="what the reward model starts from")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--label-limit", type=int, default=100, help="items of the sets of refusals")
    parser.add_argument("--threads", type=int, default=0)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    reward = reward_model(chosen.data, chosen.base, chosen.out, chosen.threads)
    model = {"model": chosen.model, "at_once": 8, "dtype": "fp32"}
    rules = [{"rule": rule} for rule in ("longer", "shorter", "first", "overlap")]
    pairs: list[dict[str, Any]] = [*rules, {"name": "reward model", "reward_model": reward}]
    rows = validated(chosen, "pairs", [*pairs, {"name": "SmolLM2-135M", "responder": model}], ["pandalm"])
    labels = [{"rule": "refusal"}, {"name": "SmolLM2-135M", "responder": model}]
    rows += validated(chosen, "labels", labels, ["xstest", "pyrit", "gptfuzzer"])
    print_table(rows)


def reward_model(data: Path, base: str, out: Path, threads: int) -> str:
    """The reward model's folder, trained if it is not there."""
    files = []
    for name, source, count in (
        ("public", data / "preference_pairs/dpo_en_demo.jsonl.gz", 300),
        ("harmless", data / "hh_rlhf/harmless_base_test.jsonl.gz", 2000),
    ):
        file = out / f"{name}.jsonl"
        with gzip.open(source, "rt", encoding="utf-8") as handle:
            lines = [line for line, _ in zip(handle, range(count), strict=False)]
        file.write_text("".join(lines), encoding="utf-8")
        files.append(str(file))
    values = {"model": base, "data": files, "epochs": 2.0, "threads": threads, "device": "cpu"}
    return str(produce("reward", configured("reward", values), out / "reward").path)


def validated(
    chosen: argparse.Namespace, name: str, judges: list[dict[str, Any]], sets: list[str]
) -> list[dict[str, Any]]:
    """Rows of the validation table of some judges on some sets."""
    data = [{"name": one, "path": str(chosen.data / SETS[one])} for one in sets]
    limit = chosen.limit if name == "pairs" else chosen.label_limit
    values = {"judges": judges, "data": data, "limit": limit, "cache": str(chosen.out / "calls.db")}
    done = produce(
        "judge-validation", configured("judge-validation", values | {"threads": chosen.threads}), chosen.out / name
    )
    return json.loads((done.path / "validation.json").read_text(encoding="utf-8"))["table"]


def print_table(rows: list[dict[str, Any]]) -> None:
    """The table in Markdown."""
    print("| judge | set | n | κ (95%) | agrees | people's κ | shown first wins | same in both orders | not judged |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        kappa, people = row["kappa"], row["people"]["fleiss"] or {"value": None}
        bias = row["bias"] or {"first": None, "consistent": None}
        span = "–" if kappa["value"] is None else f"{kappa['value']:.2f} ({kappa['low']:.2f} … {kappa['high']:.2f})"
        shares = [share(bias["first"]), share(bias["consistent"])]
        agrees = share(row["accuracy"])
        told = [row["judge"], row["set"], str(row["n"]), span, agrees, number(people["value"]), *shares]
        print("| " + " | ".join([*told, str(row["unjudged"])]) + " |")


def share(value: float | None) -> str:
    """A share in percent, or a dash."""
    return "–" if value is None else f"{100 * value:.1f}%"


def number(value: float | None) -> str:
    """A number with two digits, or a dash."""
    return "–" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
