"""Whether what we write opens in transformers 4.57 too, with the logits that the reference gives in version 5.

The tests run with version 5; version 4 is asked in a process of its own. Install it into a folder, without touching
the environment, and run:

    pip install --no-deps --target FOLDER transformers==4.57.6 huggingface_hub==0.36.0 tokenizers==0.22.1
    python -m bench.transformers_4 FOLDER [part of a case's name …]

One line for each case of `tests/family_cases.py`: "ok", else the largest difference, or why it could not be asked.
Where version 4 gives other logits for the files that version 5 wrote itself, the line says that too: then the two
versions differ, not our export.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

TOLERANCE = 1e-4


def export(folder: Path, parts: list[str]) -> None:
    """Write each case as the reference does ("theirs") and as we do ("ours"), with ids and logits."""
    from tests.family_cases import CASES
    from tests.family_checks import publish, random_ids, reference, rewrite

    from luhuo.model.load import load
    from luhuo.model.save import save

    for name, case in CASES.items():
        if not case.verified or (parts and not any(part in name for part in parts)):
            continue
        theirs, target, published = reference(case), folder / name, folder / "published"
        theirs.save_pretrained(target / "theirs")
        publish(case, theirs, published)
        save(load(published, dtype="fp32", device="cpu"), target / "ours")
        if case.layout is not None:
            rewrite(target / "ours", case.layout.restore)
        ids = random_ids(2, 40)
        save_file({"ids": ids, "logits": theirs(ids).logits.contiguous()}, target / "expected.safetensors")
        (target / "class").write_text(case.reference, encoding="utf-8")


def gap(model_class: Any, source: Path, expected: dict[str, torch.Tensor]) -> float:
    """The smaller difference of its usual and its plain attention: each leaves out an option of some family."""
    found = []
    for way in ({}, {"attn_implementation": "eager"}):
        model = model_class.from_pretrained(source, torch_dtype=torch.float32, **way).eval()
        found.append((model(expected["ids"]).logits - expected["logits"]).abs().max().item())
    return min(found)


def ask(folder: Path) -> None:
    """Open each export with the transformers of this process."""
    import transformers

    transformers.logging.set_verbosity_error()
    print("transformers", transformers.__version__)
    for target in sorted(path.parent for path in folder.glob("*/class")):
        name = (target / "class").read_text(encoding="utf-8")
        expected = load_file(target / "expected.safetensors")
        gaps = {}
        for source in ("ours", "theirs"):
            try:
                gaps[source] = gap(getattr(transformers, name), target / source, expected)
            except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
                gaps[source] = f"{type(error).__name__}: {str(error)[:120]}"
        fine = isinstance(gaps["ours"], float) and gaps["ours"] < TOLERANCE
        print("ok " if fine else "?? ", target.name, "" if fine else f"ours {gaps['ours']}; theirs {gaps['theirs']}")


@torch.no_grad()
def main() -> None:
    """Export here, ask there."""
    if sys.argv[1] == "--ask":
        ask(Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        export(Path(folder), sys.argv[2:])
        environment = {**os.environ, "PYTHONPATH": sys.argv[1]}
        subprocess.run([sys.executable, __file__, "--ask", folder], env=environment, check=True)


if __name__ == "__main__":
    main()
