"""The command line of this room: `luhuo rank new`, `serve`, `status` and `export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from luhuo.core.language import tr

app = typer.Typer(
    help=tr(
        "Let people rank answers on a local page, and make preference data of what they say.",
        "在本机网页上由人对回答排序，并导出为偏好数据。",
    ),
    no_args_is_help=True,
)

Project = Annotated[Path, typer.Argument(metavar="PROJECT", help=tr("The project's file.", "项目文件。"))]


@app.command(
    help=tr(
        "Make a project: answers out of a file, or written by models to the prompts of a file.",
        "新建项目：回答取自文件，或由模型对文件中的提示作答。",
    ),
    context_settings={"allow_extra_args": True},
)
def new(
    context: typer.Context,
    project: Project,
    answers: Annotated[
        Path | None,
        typer.Option(help=tr("Rows of prompt and answers (or chosen, rejected).", "含 prompt 与 answers 的行。")),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help=tr("Rows of prompt (or messages), for --models.", "提示文件，配合 --models。"))
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL…", help=tr("Models that answer the prompts.", "作答的模型，可给多个。")),
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, max=9, help=tr("Answers of each model.", "每个模型的回答数。"))] = 2,
    limit: Annotated[int, typer.Option(min=0, help=tr("Most prompts; 0: all.", "提示数上限；0 为全部。"))] = 0,
    temperature: Annotated[float, typer.Option(min=0, help=tr("Of the sampling.", "采样温度。"))] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help=tr("Longest answer, in tokens.", "回答的最大词元数。"))] = 512,
    each: Annotated[
        int,
        typer.Option(min=0, help=tr("How many people judge an item; 0: everyone.", "每题由几人评判；0 为所有人。")),
    ] = 0,
    title: Annotated[str, typer.Option(help=tr("Shown on the page.", "显示在页面上的标题。"))] = "",
    seed: Annotated[int, typer.Option(help=tr("Seed of orders and sampling.", "顺序与采样的种子。"))] = 0,
    dtype: Annotated[str, typer.Option(help="auto | fp32 | bf16 | fp16 | int8 | int4")] = "auto",
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | mps")] = "auto",
) -> None:
    from luhuo.rank.making import make_project

    named = [*(models or []), *context.args]  # `--models A B`: what follows the first is left over by the parser
    sampling: dict[str, Any] = {"count": n, "temperature": temperature, "max_tokens": max_tokens}
    make_project(
        project,
        answers=answers,
        prompts=prompts,
        models=named,
        limit=limit,
        settings={"each": each, "title": title, "seed": seed},
        sampling=sampling | {"seed": seed, "dtype": dtype, "device": device},
    )


@app.command(help=tr("Open the page until it is stopped (Ctrl+C).", "打开排序网页，直到停止（Ctrl+C）。"))
def serve(
    project: Project,
    host: Annotated[
        str, typer.Option(help=tr("Address; 0.0.0.0 for all.", "监听地址；0.0.0.0 为全部。"))
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help=tr("0: any free one.", "0 为任意空闲端口。"))] = 8001,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help=tr("Name by which browsers may call (repeatable).", "浏览器可使用的主机名（可重复）。")),
    ] = None,
) -> None:
    from luhuo.rank.run import serve as run

    run(project, host, port, tuple(allow_host or ()))


@app.command(help=tr("Say how far a project is.", "显示项目进度。"))
def status(
    project: Project,
    as_json: Annotated[bool, typer.Option("--json", help=tr("Print JSON.", "输出 JSON。"))] = False,
) -> None:
    from luhuo.rank.progress import progress, wins
    from luhuo.rank.store import Store

    with Store(project) as store:
        told = {**progress(store), "models": wins(store)}
    if as_json:
        print(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        from luhuo.rank.status_table import print_status

        print_status(told)


@app.command(help=tr("Write what was judged as training data (JSONL).", "把评判结果写成训练数据（JSONL）。"))
def export(
    project: Project,
    out: Annotated[Path, typer.Option("--out", help=tr("File to write.", "要写出的文件。"))],
    layout: Annotated[str, typer.Option(help="pairs | ranking | unpaired | judgements")] = "pairs",
    agree: Annotated[
        float,
        typer.Option(
            min=0, max=1, help=tr("Share that must agree on a pair or a label.", "一对或一个标签须达到的同意比例。")
        ),
    ] = 0.5,
) -> None:
    from luhuo.rank.making import export_project

    export_project(project, out, layout, agree)
