"""Every method of alignment against its control: runs the benches of docs/effects.md one after the other.

    python bench/effects.py RUN [--only grpo,dpo] [--seeds 0,1,2] [--out DIR]
    python bench/effects.py --list

RUN is a folder of the quickstart recipe (`luhuo run recipes/quickstart.yaml`), whose base, assistant and world all of
them begin with. What a bench prints is shown and kept in DIR/NAME.txt; its runs are kept too, so that a second call
goes on where the first one ended. Nothing needs a network or a GPU; each run takes minutes on two cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
EFFECTS = {
    "sft": ["sft.py", "{run}", "--seeds", "{seeds}"],
    "reward": ["reward_model.py", "--run", "{run}"],
    "dpo": ["dpo.py", "effect", "{run}", "--seeds", "{seeds}"],
    "grpo": ["grpo.py", "effect", "{run}", "--methods", "grpo,rloo", "--seeds", "{seeds}"],
    "ppo": ["ppo.py", "rule", "--run", "{run}", "--seeds", "{seeds}"],
    "best-of-n": ["ppo.py", "best-of-n", "--run", "{run}", "--seeds", "{seeds}"],
    "lora": ["adapters.py", "lora", "{run}", "--steps", "400", "--seeds", "{seeds}"],
    "adapters": ["adapters.py", "table", "{run}", "--seeds", "{seeds}"],
    "distill": ["distill.py", "{run}", "--seeds", "{seeds}"],
    "control": ["control.py", "{run}", "--seeds", "{seeds}"],
    "road": ["reasoner.py", "{out}/road/run", "--seeds", "{seeds}"],
}
"""The arguments of each."""


def run(name: str, folder: Path, seeds: str, out: Path) -> int:
    """Run one, show and keep what it prints; its exit code."""
    script, *rest = [part.format(run=folder, seeds=seeds, out=out) for part in EFFECTS[name]]
    command = [sys.executable, str(HERE / script), *rest, "--out", str(out / name)]
    print(f"\n== {name}: python bench/{' '.join([script, *command[2:]])}", flush=True)
    start = time.monotonic()
    with (out / f"{name}.txt").open("w", encoding="utf-8") as kept:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            kept.write(line)
        code = process.wait()
    print(f"== {name}: exit {code}, {time.monotonic() - start:.0f} s", flush=True)
    return code


def main() -> int:
    """Read the command line; how many benches failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--only", default=",".join(EFFECTS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/effects"))
    parser.add_argument("--list", action="store_true", help="print what there is")
    chosen = parser.parse_args()
    if chosen.list or chosen.run is None:
        print("\n".join(f"{name:10} bench/{' '.join(parts)}" for name, parts in EFFECTS.items()))
        return 0
    chosen.out.mkdir(parents=True, exist_ok=True)
    return sum(run(name, chosen.run, chosen.seeds, chosen.out) != 0 for name in chosen.only.split(","))


if __name__ == "__main__":
    sys.exit(main())
