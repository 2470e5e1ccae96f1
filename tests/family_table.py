"""`python -m tests.family_table`: run every case of every family and write docs/models.md."""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

import luhuo
from luhuo.core.atomic import write_text
from luhuo.core.errors import LuhuoError
from luhuo.model.decoder import Decoder
from luhuo.model.gguf import export_gguf, load_gguf
from luhuo.model.load import load
from tests.encoder_cases import ENCODER_CASES, ENCODER_DECODER_CASES
from tests.encoder_checks import run_encoder, run_encoder_decoder
from tests.family_cases import CASES
from tests.family_checks import Case, Result, difference, publish, random_ids, reference, run

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
TOLERANCE = 1e-4
SECTIONS: list[tuple[str, dict[str, Case], Callable[[Case], Result]]] = [
    ("Decoders 解码器", CASES, run),
    ("Encoders 编码器", ENCODER_CASES, run_encoder),
    ("Encoder-decoders 编码器-解码器", ENCODER_DECODER_CASES, run_encoder_decoder),
]
HEAD = """\
# Models · 模型

Every family below is one file in `src/luhuo/model/families/`. Each of its variants is compared with a reference on
tiny random weights in fp32 on a CPU; the table shows the largest difference of any logit, over all variants.
`tests/test_model_families.py` and `tests/test_model_encoder_families.py` hold every figure below 1e-4.

- **Logits equal**: whole texts, batches padded on the left, and our export opened again by the reference.
- **Cache**: a ragged batch read into a cache, continued token by token and by chunks, against whole passes.
- **Packed**: several documents in one row, against each alone.
- **Round trip**: the export gives back every tensor bit for bit.
- **GGUF out**: written to F32, read back here, with equal logits; the number is that of the variants that llama.cpp's
  format has a way to say.
- **Reference used**: classes of transformers; "rearranged" where the published layout is another than that
  class's. "unverified" means that no public implementation could be run here, and that the formulas were compared with
  our own plain reading of the published description, in `tests/reference_models/`.

下表中每个家族对应 `src/luhuo/model/families/` 中的一个文件。各变体均以极小的随机权重、fp32、CPU 与参考实现对比，
数值为任一 logit 的最大差异。“unverified” 表示没有可运行的公开实现，只与我们按公开描述另写的朴素公式对比过。
添加新模型的方法见 [adding-a-model.zh.md](adding-a-model.zh.md)。

A new family takes one file and one line: [adding-a-model.md](adding-a-model.md).

"""
COLUMNS = (
    "Family 家族",
    "Published models 公开模型",
    "Variants 变体",
    "Logits equal 一致",
    "Cache 缓存",
    "Packed 打包",
    "Round trip 往返",
    "GGUF out",
    "Reference used 参考实现",
)


@dataclass
class Row:
    """The variants of one family that were compared with the same kind of reference."""

    cases: list[Case]
    results: list[Result]
    gguf: int = 0

    def cells(self, family: str, cached: bool, has_gguf: bool) -> list[str]:
        """One line of the table."""
        logits = max(max(found.full, found.padded, found.reopened) for found in self.results)
        exact = sum(found.round_trip for found in self.results)
        total = len(self.results)
        return [
            f"`{family}`",
            ", ".join(dict.fromkeys(", ".join(case.models for case in self.cases if case.models).split(", "))),
            str(total),
            figure(logits),
            figure(max(found.cached for found in self.results)) if cached else "",
            figure(max(found.packed for found in self.results)),
            "bit for bit" if exact == total else f"{exact} of {total}",
            (f"{self.gguf} of {total}" if self.gguf else "no") if has_gguf else "",
            self.references(),
        ]

    def references(self) -> str:
        """What the logits were compared with."""
        if not self.cases[0].verified:
            return "unverified: own reading of the published description"
        classes = [f"`{case.reference}`{'' if case.layout is None else ' (rearranged)'}" for case in self.cases]
        return "transformers: " + ", ".join(dict.fromkeys(classes))


def figure(difference: float) -> str:
    """A difference with one digit, and a warning where it is too large."""
    return f"{difference:.0e}" if difference < TOLERANCE else f"**{difference:.0e}**"


@torch.no_grad()
def written_to_gguf(case: Case) -> bool:
    """Whether a case goes to GGUF and comes back with equal logits."""
    with tempfile.TemporaryDirectory() as folder:
        source, file = Path(folder, "theirs"), Path(folder, "ours.gguf")
        publish(case, reference(case), source)
        ours = load(source, dtype="fp32", device="cpu")
        assert isinstance(ours, Decoder)
        try:
            export_gguf(ours, file, "f32", note=lambda _: None)
        except LuhuoError:
            return False
        ids = random_ids(2, 40)
        return difference(load_gguf(file, dtype="fp32", device="cpu")(ids), ours(ids)) < TOLERANCE


def measure(cases: dict[str, Case], check: Callable[[Case], Result]) -> dict[tuple[str, bool], Row]:
    """Rows by family and by whether a public implementation was the reference."""
    rows: dict[tuple[str, bool], Row] = {}
    for name, case in cases.items():
        print(name, file=sys.stderr, flush=True)
        row = rows.setdefault((case.family, case.verified), Row([], []))
        row.cases.append(case)
        row.results.append(check(case))
        row.gguf += check is run and written_to_gguf(case)
    return dict(sorted(rows.items()))


def table(title: str, rows: dict[tuple[str, bool], Row], check: Any) -> str:
    """One section of the page."""
    lines = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    lines += [
        " | ".join(row.cells(family, check is not run_encoder, check is run)) for (family, _), row in rows.items()
    ]
    return f"## {title}\n\n" + "\n".join(f"| {line} |" for line in lines) + "\n"


def main() -> None:
    """Measure everything and write the page."""
    transformers.logging.set_verbosity_error()
    parts = [table(title, measure(cases, check), check) for title, cases, check in SECTIONS]
    versions = (
        f"Written by `python -m tests.family_table` with luhuo {luhuo.__version__}, Python "
        f"{platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}.\n\n"
    )
    write_text(PAGE, HEAD + versions + "\n".join(parts))


if __name__ == "__main__":
    main()
