"""The command line: one command a stage, derived from its config class, and the verbs that are no stages."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from luhuo import (
    chinese_help,
    compress_commands,
    corpus_commands,
    corpus_view_commands,
    evaluation_commands,
    model_commands,
)
from luhuo.arena import commands as arenas
from luhuo.core import processes
from luhuo.core.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED, LuhuoError, from_os_error
from luhuo.core.language import language, tr
from luhuo.rank import commands as ranking
from luhuo.serve import commands as serving
from luhuo.stages import STAGES

if TYPE_CHECKING:
    from luhuo.core.artifact import Done

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


def run_stage(
    name: str, pairs: list[str] | None, config: Path | None, out: Path | None, force: bool, *, show: bool = True
) -> Done:
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
    if not show:
        return done
    state = tr("unchanged", "未变") if done.reused else f"{done.manifest['duration_s']} s"
    print(f"{done.path}: {state}")
    for key, value in done.manifest["metrics"].items():
        print(f"  {key}: {value:.4g}" if isinstance(value, float) else f"  {key}: {value}")
    return done


evaluation_commands.add(app, run_stage, STAGE_PANEL)
for _name, _entry in STAGES.items():
    if _name in ("evaluate", "compare"):
        continue  # they have commands of their own
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


app.add_typer(model_commands.app)
app.add_typer(compress_commands.app)
app.add_typer(corpus_view_commands.app)
app.add_typer(corpus_commands.app)
app.add_typer(serving.app)
app.add_typer(ranking.app, name="rank")
app.add_typer(arenas.app, name="arena")


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
    help=tr(
        "Check the installation, the devices, the disk and the offline choices.", "检查安装、设备、磁盘与离线设置。"
    )
)
def doctor(
    measure: Annotated[
        bool, typer.Option(help=tr("First measure how to multiply packed weights.", "先测量打包权重的乘法。"))
    ] = False,
) -> None:
    from luhuo import doctor as machine

    if measure:
        machine.measure()
    worst = 0
    for check in machine.checks():
        print(f"{'✓' if check.ok else '✗'} {check.name}: {check.detail}")
        if not check.ok:
            worst = EXIT_FAILED
            print(f"    {check.fix}")
    raise typer.Exit(worst)
