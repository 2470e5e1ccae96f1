"""The verb `luhuo data-check`."""

from __future__ import annotations

import sys
from pathlib import Path

from luhuo.align.data_check.check import check
from luhuo.align.data_check.show import lines, write_page
from luhuo.core.errors import EXIT_FAILED, EXIT_OK, LuhuoError
from luhuo.core.language import tr
from luhuo.files.gguf import GGUF
from luhuo.files.readers import list_files
from luhuo.files.references import resolve
from luhuo.model.families import read_config
from luhuo.model.gguf import read_tokenizer
from luhuo.model.load import read_values
from luhuo.tokenizer.tokenizer import Tokenizer

LONGEST = 2048
"""Tokens of a row where neither the person nor the model says."""


def data_check(
    data: list[str], model: str, *, length: int, against: list[str], html: Path | None, show: int, plain: bool
) -> int:
    """Check the data, print the report and write the page; the exit code: 1 if there is an error, else 0."""
    tokenizer, context = _read_model(model)
    files = [file for one in data for file in list_files(resolve(one).path)]
    evaluation = [file for one in against for file in list_files(resolve(one).path)]
    report = check(files, tokenizer, length or min(context, LONGEST), evaluation, plain=plain)
    print("\n".join(lines(report, tokenizer, colour=sys.stdout.isatty(), examples=show)))
    if html is not None:
        title = tr(
            f"Data check: {', '.join(f.name for f in files[:3])}", f"数据检查：{', '.join(f.name for f in files[:3])}"
        )
        print(write_page(report, tokenizer, title, html))
    return EXIT_FAILED if report.errors else EXIT_OK


def _read_model(reference: str) -> tuple[Tokenizer, int]:
    """The tokenizer of a model, and its context. Of a model directory no weights are read."""
    folder = resolve(reference, weights=False).path
    if folder.is_dir() and not (folder / "config.json").is_file():
        return Tokenizer.load(folder), LONGEST  # a tokenizer alone
    if folder.is_dir():
        config = read_config(read_values(folder), folder / "config.json")
        return Tokenizer.load(folder), getattr(config, "max_positions", LONGEST)
    if folder.suffix == ".gguf":
        metadata = GGUF(folder).metadata
        context = metadata.get(f"{metadata.get('general.architecture')}.context_length")
        tokenizer = read_tokenizer(metadata)
        if tokenizer is not None:
            return tokenizer, context if isinstance(context, int) else LONGEST
    raise LuhuoError(
        tr("This is no model with a tokenizer.", "这不是带分词器的模型。"),
        expected="tokenizer.json, config.json | .gguf",
        where=reference,
    )
