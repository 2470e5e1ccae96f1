"""The command line of this room: `luhuo serve`, `luhuo complete` and `luhuo batch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from luhuo.core.language import tr

app = typer.Typer()

Model = Annotated[str, typer.Argument(help=tr("Model directory or reference.", "模型目录或引用。"))]
Dtype = Annotated[str, typer.Option(help="auto | fp32 | bf16 | fp16 | int8 | int4")]
Adapter = Annotated[Path | None, typer.Option(help=tr("Directory of an adapter.", "适配器目录。"))]
Device = Annotated[str, typer.Option(help="auto | cpu | cuda | mps")]


@app.command(
    help=tr(
        "Serve models over HTTP with OpenAI's API, and a chat page at /.",
        "通过 HTTP 提供兼容 OpenAI 的接口，并在 / 提供聊天页面。",
    )
)
def serve(
    models: Annotated[
        list[str],
        typer.Argument(metavar="[NAME=]MODEL…", help=tr("Models, each perhaps with a name.", "模型，可各自命名。")),
    ],
    host: Annotated[
        str, typer.Option(help=tr("Address; 0.0.0.0 for all.", "监听地址；0.0.0.0 为全部。"))
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help=tr("0: any free one.", "0 为任意空闲端口。"))] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help=tr("Name by which clients may call (repeatable).", "客户端可使用的主机名（可重复）。")),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[MODEL:]NAME=DIR",
            help=tr("LoRA adapter, a model by this name (repeatable).", "LoRA 适配器，以此名称提供（可重复）。"),
        ),
    ] = None,
    adapter_root: Annotated[
        Path | None,
        typer.Option(help=tr("Folder to load adapters from over HTTP.", "可经 HTTP 加载适配器的目录。")),
    ] = None,
    engine: Annotated[
        str, typer.Option(help=tr("own, or ray: replicas behind one address.", "own，或 ray：同一地址后的多个副本。"))
    ] = "own",
    replicas: Annotated[int, typer.Option(help=tr("Replicas, with ray.", "副本数（用于 ray）。"))] = 1,
    threads: Annotated[int, typer.Option(help=tr("Cores of a replica.", "每个副本的核数。"))] = 1,
    keys: Annotated[Path | None, typer.Option(help=tr("YAML file of API keys.", "API 密钥的 YAML 文件。"))] = None,
    data: Annotated[Path | None, typer.Option(help=tr("Folder for feedback.", "反馈保存目录。"))] = None,
    log: Annotated[Path | None, typer.Option(help=tr("File for the request log.", "请求日志文件。"))] = None,
    log_contents: Annotated[
        bool, typer.Option("--log-contents", help=tr("Log prompts and answers.", "记录提示与回答内容。"))
    ] = False,
    max_queue: Annotated[int, typer.Option(help=tr("Answers waited for at a time.", "同时等待的回答数上限。"))] = 1024,
    max_tokens: Annotated[int | None, typer.Option(help=tr("Most tokens of an answer.", "回答的最大词元数。"))] = None,
    timeout: Annotated[float, typer.Option(help=tr("Seconds an answer may take.", "一次回答的时限（秒）。"))] = 600.0,
    drain: Annotated[
        float, typer.Option(help=tr("Seconds to finish after SIGTERM.", "收到 SIGTERM 后的收尾时限（秒）。"))
    ] = 60.0,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    from luhuo.serve.config import ServeConfig

    values: dict[str, Any] = {
        "host": host,
        "port": port,
        "hosts": tuple(allow_host or ()),
        "adapters": tuple(adapter or ()),
        "adapter_root": adapter_root,
        "engine": engine,
        "replicas": replicas,
        "threads": threads,
        "keys": keys,
        "data": data,
        "log": log,
        "log_contents": log_contents,
        "max_queue": max_queue,
        "max_tokens": max_tokens,
        "request_s": timeout,
        "drain_s": drain,
        "dtype": dtype,
        "device": device,
    }
    from luhuo.serve.waiting import wait_briefly

    config = ServeConfig.parse(values, "luhuo serve")
    wait_briefly()
    from luhuo.serve.run import serve as run

    raise typer.Exit(run(models, config))


@app.command(help=tr("Continue a text.", "续写一段文本。"))
def complete(
    model: Model,
    text: Annotated[
        str | None, typer.Argument(help=tr("The text; without it, standard input.", "文本；不给则读取标准输入。"))
    ] = None,
    temperature: Annotated[float, typer.Option(help=tr("0 is greedy.", "0 为贪心。"))] = 0.0,
    max_tokens: Annotated[int, typer.Option(help=tr("Most tokens to generate.", "最多生成的词元数。"))] = 256,
    top_p: Annotated[float, typer.Option(help=tr("Nucleus sampling.", "核采样。"))] = 1.0,
    stop: Annotated[
        list[str] | None, typer.Option(help=tr("Ends the text (repeatable).", "停止串（可重复）。"))
    ] = None,
    seed: Annotated[int, typer.Option(help=tr("Seed of the sampling.", "采样种子。"))] = 0,
    echo: Annotated[bool, typer.Option("--echo", help=tr("Print the text given, too.", "同时输出所给文本。"))] = False,
    adapter: Adapter = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    from luhuo.serve.complete import run_complete

    values: dict[str, Any] = {
        "temperature": temperature,
        "max_tokens": max_tokens,
        "top_p": top_p,
        "stop": tuple(stop or ()),
        "seed": seed,
    }
    run_complete(model, text, values, echo=echo, adapter=adapter, dtype=dtype, device=device)


@app.command(
    help=tr(
        "Answer a file of requests (OpenAI's batch format); the same command continues one that was cut off.",
        "批量回答文件中的请求（OpenAI 批处理格式）；中断后用同一命令继续。",
    )
)
def batch(
    model: Model,
    requests: Annotated[Path, typer.Argument(help=tr("Requests (JSONL).", "请求文件（JSONL）。"))],
    out: Annotated[Path, typer.Argument(help=tr("File to write.", "要写出的文件。"))],
    seed: Annotated[
        int, typer.Option(help=tr("Seed for requests that name none.", "未指定种子的请求所用的种子。"))
    ] = 0,
    force: Annotated[bool, typer.Option("--force", help=tr("Begin anew.", "从头开始。"))] = False,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DIR",
            help=tr(
                "LoRA adapter for lines whose model is NAME (repeatable).",
                "供 model 为该名称的行使用的 LoRA 适配器（可重复）。",
            ),
        ),
    ] = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    from luhuo.serve.batch import run_batch

    found = run_batch(model, requests, out, seed=seed, force=force, adapters=adapter or (), dtype=dtype, device=device)
    raise typer.Exit(found)
