"""Luhuo's scores beside lm-evaluation-harness's, item by item, on one model and the same seeded items.

    python bench/lm_eval_parity.py --data DIR [--model smollm2-135m-instruct] [--limit 500] [--tasks a,b] [--out FILE]

DIR holds the benchmark folders (arc, mmlu, commonsense, …). Finished tasks are kept in FILE, and of a task that is not
finished the harness's subjects or pieces of forty replies, so that the same command continues where it was cut off;
`--limit 0` asks the full sets. Prints a table for docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ |= dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"), "1")  # before its libraries are imported

from bench import lm_eval_peer

from luhuo.adapter.open import open_decoder
from luhuo.core.atomic import write_json
from luhuo.model.save import save


class Parts(dict[str, Any]):
    """What the harness got for the parts of a task; each is written to the file as soon as it is there."""

    def __init__(self, done: dict[str, Any], task: str, file: Path) -> None:
        super().__init__(done.setdefault("parts", {}).get(task, {}))
        self.done, self.task, self.file = done, task, file

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self.done["parts"][self.task] = dict(self)
        write_json(self.file, self.done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--tasks", default=",".join(lm_eval_peer.FOLDERS))
    parser.add_argument("--context", type=int, default=2048, help="tokens of a window of wikitext")
    parser.add_argument("--tokens", type=int, default=256, help="most tokens of a reply")
    parser.add_argument("--batch", type=int, default=8, help="of the harness")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/lm_eval_parity.json"))
    args = parser.parse_args()
    done = json.loads(args.out.read_text(encoding="utf-8")) if args.out.is_file() else {}
    settings = {"model": args.model, "limit": args.limit, "context": args.context, "tokens": args.tokens}
    if done.get("settings") != settings:
        done = {"settings": settings, "tasks": {}}
    model = open_decoder(args.model, dtype="fp32", device=args.device).eval()
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder))
        peer = lm_eval_peer.their_model(Path(folder), model, batch=args.batch)
        for task in args.tasks.split(","):
            if task in done["tasks"]:
                continue
            context = args.context if task == "wikitext" else None
            peer._max_length = context or model.config.max_positions
            started = time.time()
            with tempfile.TemporaryDirectory() as scratch:
                place = lm_eval_peer.place(task, args.data, Path(scratch))
                found = lm_eval_peer.compare(
                    model,
                    peer,
                    task,
                    place,
                    limit=args.limit or None,
                    tokens=args.tokens,
                    context=context,
                    kept=Parts(done, task, args.out),
                )
            del done["parts"][task]
            done["tasks"][task] = asdict(found)
            write_json(args.out, done)
            print(f"{task}: {found.n} items, {time.time() - started:.0f} s", file=sys.stderr, flush=True)
    print("\n".join(table(done["tasks"])))


def table(tasks: dict) -> list[str]:
    """Rows of Markdown."""
    lines = ["| task | items | metric | Luhuo | lm-eval | largest difference of a log-likelihood | beyond tolerance |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, one in tasks.items():
        for number, (metric, (ours, theirs)) in enumerate(one["scores"].items()):
            first = [name, str(one["n"])] if not number else ["", ""]
            apart = f"{one['worst']:.1e}" if one["values"] else f"{one['texts_differ']} replies differ"
            last = [apart, f"{one['beyond']} of {one['values']}" if one["values"] else ""] if not number else ["", ""]
            lines.append(f"| {' | '.join([*first, metric, f'{ours:.4f}', f'{theirs:.4f}', *last])} |")
    return lines


if __name__ == "__main__":
    main()
