"""The commands about text quality: `luhuo label` and `luhuo text-classifier-explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr

app = typer.Typer()


@app.command(
    help=tr(
        "Label texts by hand, for text-classifier; the same command continues.",
        "手工标注文本，供 text-classifier 使用；再次运行同一命令即可继续。",
    )
)
def label(
    file: Annotated[Path, typer.Argument(help=tr("Texts (jsonl, csv, txt …).", "文本（jsonl、csv、txt 等）。"))],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help=tr("File of labels (default: FILE.labels.jsonl).", "标注文件（默认：文件名.labels.jsonl）。")
        ),
    ] = None,
    labels: Annotated[str, typer.Option(help=tr("Names, with commas.", "标签名，以逗号分隔。"))] = "good,bad",
    text_field: Annotated[str, typer.Option(help=tr("Field of the text.", "正文字段。"))] = "text",
) -> None:
    from luhuo.corpus.signals import labelling

    target = out or file.with_name(file.name + ".labels.jsonl")
    given = labelling.label(
        file,
        target,
        [name.strip() for name in labels.split(",")],
        text_field=text_field,
        ask=_ask,
        show=print,
    )
    print(tr(f"{target}: {given} labels more", f"{target}：新增 {given} 个标签"))


@app.command(
    "text-classifier-explain",
    help=tr("Which n-grams pulled a classifier's score up or down.", "哪些 n-gram 拉高或拉低了分类器的分数。"),
)
def explain(
    model: Annotated[Path, typer.Argument(help=tr("Result of text-classifier.", "text-classifier 的结果。"))],
    text: Annotated[str, typer.Argument(help=tr("The text, or @FILE.", "文本，或 @文件。"))],
    most: Annotated[int, typer.Option(min=1, help=tr("n-grams to show.", "显示多少个 n-gram。"))] = 20,
) -> None:
    from luhuo.corpus.normalise import normalise
    from luhuo.corpus.signals.classifier import Classifier

    classifier = Classifier.load(model)
    score, pulls = classifier.explain(normalise(_text(text)), most=most)
    print(f"{classifier.positive}: {score:.4f}")
    for pull in pulls:
        print(f"  {pull.weight:+8.4f} ×{pull.count}  {pull.text!r}")


def _ask(menu: str) -> str:
    """One answer; the end of the input means that nothing more is labelled."""
    try:
        return input(f"{menu}\n> ")
    except EOFError:
        return "q"


def _text(argument: str) -> str:
    """The text itself, or the content of the file it names."""
    if not argument.startswith("@"):
        return argument
    path = Path(argument[1:])
    if not path.is_file():
        raise LuhuoError(tr("There is no such file.", "没有这个文件。"), where=path)
    return path.read_text(encoding="utf-8", errors="replace")
