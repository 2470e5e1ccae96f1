"""The command `luhuo compress-report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from luhuo.core.language import tr
from luhuo.evaluation_commands import separated, task_places

Model = Annotated[str, typer.Argument(help=tr("Model directory or reference.", "模型目录或引用。"))]
Data = Annotated[
    str,
    typer.Option(
        metavar="TEXT",
        help=tr(
            "Text to calibrate and to measure on: files, conversations, a corpus or shards.",
            "用于校准与测量的文本：文件、对话、语料或分片。",
        ),
    ),
]
Out = Annotated[Path, typer.Option("--out", help=tr("Directory to write.", "输出目录。"))]
Heldout = Annotated[
    str | None,
    typer.Option(help=tr("Text to measure on; by default a part of --data.", "测量文本；默认取 --data 的一部分。")),
]
Budget = Annotated[
    str | None, typer.Option(help=tr("Time to spend: 30m, 2h; by default all.", "时间预算：30m、2h；默认不限。"))
]
Limit = Annotated[
    str | None,
    typer.Option(
        help=tr(
            'What the model has to keep: "1GB, loss<1%"; also memory, kl, agreement, accuracy, decode, prefill.',
            "须满足的限制：“1GB, loss<1%”；另有 memory、kl、agreement、accuracy、decode、prefill。",
        )
    ),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(help=tr("Only these: stages, methods, 4-bit; commas.", "只试这些：阶段、方法、4-bit；以逗号分隔。")),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--tasks", help=tr("Benchmarks (luhuo tasks), with commas.", "评测任务（luhuo tasks），以逗号分隔。")
    ),
]
TaskData = Annotated[
    list[str] | None,
    typer.Option("--task-data", metavar="TASK=DIR", help=tr("Where a task's data lie.", "任务数据的位置。")),
]
TaskItems = Annotated[int | None, typer.Option(min=1, help=tr("Most items a task.", "每个任务最多题数。"))]
Tokens = Annotated[int, typer.Option(min=512, help=tr("Tokens to measure on.", "用于测量的词元数。"))]
Sequences = Annotated[int, typer.Option(min=1, help=tr("Calibration sequences.", "校准序列数。"))]
Length = Annotated[
    int, typer.Option(min=16, help=tr("Tokens of a sequence and a passage.", "每个序列与段落的词元数。"))
]
Turns = Annotated[
    int,
    typer.Option(
        min=0,
        help=tr("Turns of timing; 0: neither speed nor memory.", "测速轮数；0 为不测速度与内存。"),
    ),
]
Seed = Annotated[int, typer.Option(min=0, help=tr("Seed.", "种子。"))]
Device = Annotated[str, typer.Option(help="auto | cpu | cuda | mps")]

app = typer.Typer()


@app.command(
    "compress-report",
    help=tr(
        "Try ways to compress a model within a time budget, measure each, and recommend one: a page and JSON.",
        "在时间预算内尝试各种压缩方法，逐一测量并给出推荐：网页与 JSON。",
    ),
)
def compress_report(
    model: Model,
    data: Data,
    out: Out,
    heldout: Heldout = None,
    budget: Budget = None,
    limit: Limit = None,
    methods: Methods = None,
    tasks: Tasks = None,
    task_data: TaskData = None,
    task_items: TaskItems = None,
    tokens: Tokens = 16_384,
    sequences: Sequences = 128,
    length: Length = 512,
    turns: Turns = 5,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    from luhuo import compression_report as verb

    request = verb.Request(
        model=model,
        data=data,
        out=out,
        heldout=heldout,
        budget=budget,
        limit=limit,
        methods=separated(methods or []),
        tasks=separated(tasks or []),
        task_data=task_places(task_data or [], "--task-data"),
        task_items=task_items,
        tokens=tokens,
        sequences=sequences,
        length=length,
        turns=turns,
        seed=seed,
        device=device,
    )
    print(verb.compress_report(request))
