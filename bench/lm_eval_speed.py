"""How long Luhuo and lm-evaluation-harness (its `hf` back end) take for the same items on the same model.

    python bench/lm_eval_speed.py --data DIR [--model smollm2-135m-instruct] [--limit 40] [--tasks a,b] [--threads 2]

Of tasks with subjects the first items in file order are taken, as they stand in the full set: of few subjects.
Both load the model before the clock starts, tokenise and score within it, in fp32. Wall time means something on a
quiet machine only; processor time is printed beside it and says how much work was done.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ |= dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"), "1")  # before its libraries are imported

from bench import lm_eval_peer

from luhuo.adapter.open import open_decoder
from luhuo.core.atomic import write_json
from luhuo.evaluation.asking import AskSettings
from luhuo.evaluation.runner import Runner, Subject
from luhuo.evaluation.tasks import catalogue
from luhuo.evaluation.tasks.documents import documents
from luhuo.evaluation.tasks.sources import folder_of
from luhuo.inference.engine import Engine
from luhuo.model.save import save

TASKS = {"arc_easy": "arc", "hellaswag": "hellaswag", "piqa": "commonsense", "mmlu": "mmlu", "cmmlu": "cmmlu"}


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(wall seconds, processor seconds) of some work."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def slice_of(task: catalogue.Task, folder: Path, count: int, to: Path) -> Path:
    """The first rows of the asked split, and all examples, in a folder of their own."""
    from luhuo.evaluation.tasks.sources import read

    files = task.spec.data.layouts[0].files
    for split in (task.spec.split, task.spec.shots.split):
        rows = read(task, folder, split, 0)
        some = itertools.islice(rows, count) if split == task.spec.split else rows
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in some)
        (to / files[split].rstrip("*")).write_text(lines, encoding="utf-8")
    return to


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8, help="of the harness")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/lm_eval_speed.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = open_decoder(args.model, dtype="fp32", device="cpu").eval()
    found: dict[str, dict[str, float]] = {}
    print("| task | items | Luhuo s | lm-eval s | times | Luhuo processor s | lm-eval processor s | times |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as slices:
        save(model, Path(folder))
        peer = lm_eval_peer.their_model(Path(folder), model, batch=args.batch)
        for name in args.tasks.split(","):
            task, place = catalogue.task(name), str(args.data / TASKS[name])
            if task.spec.subject:
                (Path(slices) / name).mkdir()
                place = str(slice_of(task, Path(place), args.limit, Path(slices) / name))
            items = documents(task, folder_of(task, place), limit=args.limit, seed=0)
            runner = Runner(Subject(Engine(model)), AskSettings(limit=args.limit))
            ours = timed(lambda runner=runner, task=task, place=place: runner.run(task, place))
            theirs = timed(lambda name=name, items=items: lm_eval_peer.their_samples(name, items, peer, 256))
            found[name] = {"n": len(items), "ours": ours[0], "theirs": theirs[0]}
            found[name] |= {"ours_processor": ours[1], "theirs_processor": theirs[1]}
            write_json(args.out, found)
            print(
                f"| {name} | {len(items)} | {ours[0]:.1f} | {theirs[0]:.1f} | {theirs[0] / ours[0]:.1f} | "
                f"{ours[1]:.1f} | {theirs[1]:.1f} | {theirs[1] / ours[1]:.1f} |",
                flush=True,
            )
    print(json.dumps({"threads": args.threads, "batch": args.batch, "model": args.model}))


if __name__ == "__main__":
    main()
