"""Settings of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from luhuo.core.config import Config, field


class ServeConfig(Config):
    """How a server listens, what it allows, and where it writes."""

    host: str = field("127.0.0.1", "Address to listen on; 0.0.0.0 for all.", "监听地址；0.0.0.0 为全部。")
    port: int = field(8000, "Port; 0: any free one.", "端口；0 为任意空闲端口。", ge=0, le=65535)
    hosts: tuple[str, ...] = field(
        (), "Host names by which clients may call, beside the address.", "客户端可使用的主机名（监听地址之外）。"
    )
    keys: Path | None = field(None, "YAML file of API keys.", "API 密钥的 YAML 文件。")
    adapters: tuple[str, ...] = field(
        (), "LoRA adapters to serve: [MODEL:]NAME=DIR.", "要提供服务的 LoRA 适配器：[模型:]名称=目录。"
    )
    adapter_root: Path | None = field(
        None,
        "Folder below which an administrator may load adapters over HTTP; none: not at all.",
        "管理员可经 HTTP 加载其下适配器的目录；不设则不允许。",
    )
    max_adapters: int = field(64, "Adapters loaded at a time.", "同时加载的适配器数上限。", ge=0)
    data: Path | None = field(None, "Folder for feedback; none: not taken.", "反馈保存目录；不设则不接收。")
    log: Path | None = field(
        None, "File for the request log; none: standard error.", "请求日志文件；不设则写到标准错误。"
    )
    log_contents: bool = field(False, "Write prompts and answers into the log.", "在日志中记录提示与回答。")
    dtype: str = field(
        "auto",
        "Numbers to compute in: auto | fp32 | bf16 | fp16 | int8 | int4.",
        "计算所用数值：auto | fp32 | bf16 | fp16 | int8 | int4。",
    )
    device: str = field("auto", "auto | cpu | cuda | mps", "auto | cpu | cuda | mps")
    engine: Literal["own", "ray"] = field(
        "own",
        "own: one server; ray: replicas of it behind one address (Ray Serve).",
        "own：单个服务器；ray：同一地址后的多个副本（Ray Serve）。",
    )
    replicas: int = field(1, "Replicas, with ray.", "副本数（用于 ray）。", ge=1, le=1024)
    threads: int = field(1, "CPU cores of a replica, with ray.", "每个副本的 CPU 核数（用于 ray）。", ge=1, le=1024)
    max_queue: int = field(
        1024,
        "Answers that may wait or run at a time; beyond it: 429.",
        "同时等待或运行的回答数上限；超出返回 429。",
        ge=1,
    )
    max_body: int = field(4 << 20, "Bytes of a request.", "请求体的最大字节数。", ge=1024)
    max_tokens: int | None = field(
        None, "Most tokens of an answer; none: the context.", "回答的最大词元数；不设则以上下文为限。", ge=1
    )
    body_s: float = field(30.0, "Seconds that a client has to send a request.", "客户端发送请求的时限（秒）。", gt=0)
    stall_s: float = field(60.0, "Seconds that a client may take no data.", "客户端停止接收的时限（秒）。", gt=0)
    request_s: float = field(600.0, "Seconds that an answer may take.", "一次回答的时限（秒）。", gt=0)
    drain_s: float = field(
        60.0, "Seconds for running requests after SIGTERM.", "收到 SIGTERM 后留给运行中请求的时间（秒）。", ge=0
    )
