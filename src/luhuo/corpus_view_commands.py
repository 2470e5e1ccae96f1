"""The commands that show a corpus: `luhuo corpus-report` and `corpus-browse`."""

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


@app.command(
    "corpus-browse",
    help=tr(
        "Look through a corpus on a local page or in the terminal: search, filters, documents before and after.",
        "在本机网页或终端中浏览语料：搜索、筛选、逐篇对照清洗前后。",
    ),
)
def corpus_browse(
    folder: Folder,
    terminal: Annotated[
        bool, typer.Option("--terminal", help=tr("In the terminal, not on a page.", "在终端中浏览，不开网页。"))
    ] = False,
    query: Annotated[
        str,
        typer.Option(help=tr("Print what fits, and leave.", "输出符合条件的文档后退出。")),
    ] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help=tr("0: any free one.", "0 为任意空闲端口。"))] = 8003,
) -> None:
    if not terminal and not query:
        from luhuo.browse.run import serve

        serve(folder, port)
        return
    from luhuo.browse.query import Query
    from luhuo.browse.terminal import PROMPT, browse, parse

    wanted = parse(query, Query()) if query else Query()
    browse(folder, wanted, None if query else lambda: input(PROMPT))
