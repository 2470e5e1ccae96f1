"""The command line of this room: `luhuo arena MODEL MODEL …`, its votes, and rating sheets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from luhuo.core.language import tr


class _ModelsFirst(TyperGroup):
    """`luhuo arena A B` is `luhuo arena serve A B`: whatever names no command is a model."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ModelsFirst,
    help=tr(
        "Let people compare models side by side and blind (luhuo arena MODEL MODEL …), and rate the models by it.",
        "让人并排盲评模型（luhuo arena 模型 模型 …），并由此得出评分。",
    ),
    no_args_is_help=True,
)
sheet = typer.Typer(
    help=tr(
        "Blind rating sheets for experts: references first, then answers on scales.",
        "专家盲评表：先写参考答案，再按量表评分。",
    ),
    no_args_is_help=True,
)
app.add_typer(sheet, name="sheet")

Host = Annotated[str, typer.Option(help=tr("Address; 0.0.0.0 for all.", "监听地址；0.0.0.0 为全部。"))]
Port = Annotated[int, typer.Option(min=0, max=65535, help=tr("0: any free one.", "0 为任意空闲端口。"))]
Hosts = Annotated[
    list[str] | None,
    typer.Option(help=tr("Name by which browsers may call (repeatable).", "浏览器可使用的主机名（可重复）。")),
]
Votes = Annotated[Path, typer.Argument(metavar="VOTES", help=tr("The arena's file of votes.", "竞技场的投票文件。"))]
SheetFile = Annotated[Path, typer.Argument(metavar="SHEET", help=tr("The sheet's file.", "评分表文件。"))]


@app.command(help=tr("Open the page until it is stopped (Ctrl+C).", "打开竞技场网页，直到停止（Ctrl+C）。"))
def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL…", help=tr("Models, or https://HOST/v1#MODEL.", "模型，或 https://主机/v1#模型。")
        ),
    ],
    votes: Annotated[Path, typer.Option(help=tr("File of votes, made if missing.", "投票文件，缺则新建。"))] = Path(
        "arena.db"
    ),
    title: Annotated[str, typer.Option(help=tr("Shown on the page.", "显示在页面上的标题。"))] = "",
    temperature: Annotated[float, typer.Option(min=0, help=tr("Of the sampling.", "采样温度。"))] = 0.7,
    max_tokens: Annotated[int, typer.Option(min=1, help=tr("Longest answer, in tokens.", "回答的最大词元数。"))] = 512,
    key_from: Annotated[
        str, typer.Option(help=tr("Variable that holds the endpoints' key.", "存放端点密钥的环境变量。"))
    ] = "",
    seconds: Annotated[float, typer.Option(min=1, help=tr("Patience with an endpoint.", "等待端点的秒数。"))] = 120.0,
    host: Host = "127.0.0.1",
    port: Port = 8002,
    allow_host: Hosts = None,
    dtype: Annotated[str, typer.Option(help="auto | fp32 | bf16 | fp16 | int8 | int4")] = "auto",
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | mps")] = "auto",
) -> None:
    from luhuo.arena.run import serve as run

    settings: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens, "key_from": key_from}
    settings |= {"seconds": seconds, "dtype": dtype, "device": device}
    run(models, votes, host, port, tuple(allow_host or ()), settings, title)


@app.command(
    help=tr(
        "Rate models by votes: an arena's file, or a file in the public arenas' layout.",
        "由投票为模型评分：竞技场的投票文件，或公开竞技场格式的文件。",
    )
)
def leaderboard(
    votes: Votes,
    out: Annotated[
        Path | None, typer.Option("--out", help=tr("Also write .html or .json.", "同时写出 .html 或 .json。"))
    ] = None,
    style: Annotated[
        bool, typer.Option("--style", help=tr("At equal length and layout.", "控制长度与版式。"))
    ] = False,
    keep_named: Annotated[
        bool,
        typer.Option(
            "--keep-named", help=tr("Keep votes on answers that name a model.", "保留回答中提到模型名的投票。")
        ),
    ] = False,
    ban: Annotated[
        list[str] | None, typer.Option(help=tr("Leave a voter out (repeatable).", "排除某投票者（可重复）。"))
    ] = None,
    per_judge: Annotated[
        int, typer.Option(min=0, help=tr("Most votes of one voter; 0: all.", "每人最多计票数；0 为不限。"))
    ] = 0,
    bootstrap: Annotated[
        bool, typer.Option("--bootstrap", help=tr("Intervals by resampled votes.", "用重抽投票求区间。"))
    ] = False,
    anchor: Annotated[
        str, typer.Option(metavar="MODEL=RATING", help=tr("A model's fixed rating.", "固定某模型的评分。"))
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help=tr("Print JSON.", "输出 JSON。"))] = False,
) -> None:
    from luhuo.arena.run import anchored, show
    from luhuo.evaluation.votes import Cleaning

    rules = Cleaning(identity=not keep_named, banned_judges=frozenset(ban or ()), per_judge=per_judge)
    fixed = anchored(anchor) if anchor else None
    intervals = "bootstrap" if bootstrap else "sandwich"
    show(votes, out, style=style, cleaning=rules, as_json=as_json, intervals=intervals, anchor=fixed)


@app.command(
    help=tr("Write votes as JSON lines in the public arenas' layout.", "把投票写成公开竞技场格式的 JSON 行。")
)
def export(
    votes: Votes,
    out: Annotated[Path, typer.Option("--out", help=tr("File to write.", "要写出的文件。"))],
) -> None:
    from luhuo.arena.run import export as run

    run(votes, out)


@sheet.command(help=tr("Make a sheet out of a file of prompts and answers.", "由含提示与回答的文件建立评分表。"))
def new(
    sheet_file: SheetFile,
    answers: Annotated[Path, typer.Option(help=tr("Rows of prompt and answers.", "含 prompt 与 answers 的行。"))],
    criteria: Annotated[
        Path | None,
        typer.Option(help=tr("YAML of scales; none: meaning, logic, style.", "量表 YAML；不设：语义、逻辑、文风。")),
    ] = None,
    references: Annotated[
        str, typer.Option(help=tr("Who answers first: each | any | none.", "谁先写参考答案：each | any | none。"))
    ] = "each",
    title: Annotated[str, typer.Option(help=tr("Shown on the page.", "显示在页面上的标题。"))] = "",
    seed: Annotated[int, typer.Option(help=tr("Seed of orders.", "顺序的种子。"))] = 0,
) -> None:
    from luhuo.arena.sheet_run import make

    make(sheet_file, answers, criteria, references, title, seed)


@sheet.command(
    "serve", help=tr("Open the sheet until it is stopped (Ctrl+C).", "打开评分表网页，直到停止（Ctrl+C）。")
)
def serve_sheet(sheet_file: SheetFile, host: Host = "127.0.0.1", port: Port = 8003, allow_host: Hosts = None) -> None:
    from luhuo.arena.sheet_run import serve as run

    run(sheet_file, host, port, tuple(allow_host or ()))


@sheet.command(help=tr("Say what the ratings say, and how far experts agree.", "显示评分结果与专家一致性。"))
def status(
    sheet_file: SheetFile,
    out: Annotated[
        Path | None, typer.Option("--out", help=tr("Also write .html or .json.", "同时写出 .html 或 .json。"))
    ] = None,
) -> None:
    from luhuo.arena.sheet_run import status as run

    run(sheet_file, out)


@sheet.command(
    "export", help=tr("Write one row an answer, with all ratings (JSONL).", "每个回答写一行，含全部评分（JSONL）。")
)
def export_sheet(
    sheet_file: SheetFile,
    out: Annotated[Path, typer.Option("--out", help=tr("File to write.", "要写出的文件。"))],
) -> None:
    from luhuo.arena.sheet_run import export as run

    run(sheet_file, out)
