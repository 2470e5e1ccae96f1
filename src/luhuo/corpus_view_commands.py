"""The commands that show a corpus: `luhuo corpus-report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from luhuo.core.language import tr

app = typer.Typer()

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        help=tr(
            "Result of a stage filter, deduplicate, annotate or corpus.",
            "filter、deduplicate、annotate 或 corpus 阶段的产物。",
        ),
    ),
]


@app.command(
    "corpus-report",
    help=tr(
        "Write the data card of a corpus: sources, languages, reasons, signals, duplicates, samples; one page.",
        "写出语料的数据卡片：来源、语言、丢弃原因、信号、重复、样例；单个网页。",
    ),
)
def corpus_report(
    folder: Folder,
    out: Annotated[Path | None, typer.Option("--out", help=tr("File to write.", "要写出的文件。"))] = None,
    tokenizer: Annotated[
        list[str] | None,
        typer.Option(
            help=tr("Tokenizer or model to count tokens with (repeatable).", "用于统计词元的分词器或模型（可重复）。")
        ),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help=tr("Markdown, for a README.", "输出 Markdown，用于 README。"))
    ] = False,
) -> None:
    from luhuo.report.corpus_card.write import write_card

    print(write_card(folder, out, tokenizer or (), as_markdown=markdown))
