"""The figures of a model as tables in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from luhuo.core.language import tr
from luhuo.model.info import RANK, Info

PARTS = {
    "embedding": ("embedding", "嵌入"),
    "positions": ("positions", "位置"),
    "attention": ("attention", "注意力"),
    "mlp": ("feed-forward", "前馈层"),
    "experts": ("experts", "专家"),
    "norms": ("norms", "归一化"),
    "head": ("output head", "输出头"),
    "mtp": ("multi-token prediction", "多词元预测"),
    "other": ("other", "其他"),
}


def size(count: float) -> str:
    """Bytes in a readable unit."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def amount(count: float) -> str:
    """A number of parameters or operations in a readable unit."""
    for unit in ("", "K", "M", "G"):
        if count < 1000:
            return f"{count:.0f}{unit}" if not unit or count >= 100 else f"{count:.1f}{unit}"
        count /= 1000
    return f"{count:.2f}T"


def print_info(info: Info) -> None:
    """Print everything that is known of a model."""
    console = Console()
    console.print(_facts(info))
    console.print(_parts(info))
    if info.serve:
        console.print(_needs(info))
        console.print(
            tr(
                "Estimates from the shapes. fp32 and bf16: all weights trained with AdamW, master weights in fp32. "
                f"int8 and int4: blocks in groups of 32, trained through adapters of rank {RANK}. "
                "In training: weights, gradients, optimiser. Activations without recomputation.",
                "按形状估算。fp32、bf16：用 AdamW 训练全部权重，主权重为 fp32。"
                f"int8、int4：各层按 32 个一组量化，经秩 {RANK} 的适配器训练。"
                "训练状态为权重、梯度与优化器；激活值按不重算计。",
            ),
            style="dim",
            soft_wrap=True,
        )


def _facts(info: Info) -> Table:
    table = Table(show_header=False, title=info.reference, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    unknown = tr("unknown", "未知")
    family = f" ({info.family})" if info.family else ""
    types = ", ".join(f"{name} {amount(numbers)}" for name, numbers in sorted(info.stored.items()))
    rows = [
        (tr("path", "路径"), info.path),
        (tr("architecture", "架构"), info.architecture + family),
        (tr("licence", "许可"), info.licence or unknown),
        (tr("weights", "权重"), ", ".join(filter(None, [info.format, size(info.bytes) if info.bytes else "", types]))),
        (tr("parameters", "参数量"), f"{info.parameters:,} ({amount(info.parameters)})"),
    ]
    if info.compression:
        rows.append((tr("compression", "压缩"), info.compression))
    if info.active is not None and info.active != info.parameters:
        rows.append((tr("active per token", "每词元激活"), f"{info.active:,} ({amount(info.active)})"))
    if info.shape:
        rows.append((tr("shape", "形状"), ", ".join(f"{name} {value:,}" for name, value in info.shape.items())))
    if info.context:
        rows.append((tr("context", "上下文"), tr(f"{info.context:,} tokens", f"{info.context:,} 词元")))
    if info.flops:
        rows.append(
            (
                tr("operations per token", "每词元运算"),
                tr(
                    f"{amount(info.flops['forward'])} forward, {amount(info.flops['train'])} with backward "
                    f"(mean over {info.length:,} tokens)",
                    f"前向 {amount(info.flops['forward'])}，含反向 {amount(info.flops['train'])}"
                    f"（{info.length:,} 词元内平均）",
                ),
            )
        )
    if info.cache_per_token:
        each, whole = (size(cache["bf16"]) for cache in (info.cache_per_token, info.cache_of_context))
        rows.append(
            (
                tr("cache (bf16)", "缓存（bf16）"),
                tr(f"{each} a token, {whole} for the whole context", f"每词元 {each}，整个上下文 {whole}"),
            )
        )
    rows += _tokenizer_rows(info)
    for row in rows:
        table.add_row(*row)
    return table


def _tokenizer_rows(info: Info) -> list[tuple[str, str]]:
    words = info.tokenizer
    if words.kind is None:
        return [(tr("tokenizer", "分词器"), tr("none", "无"))]
    vocabulary = tr(f", {words.vocabulary:,} tokens", f"，{words.vocabulary:,} 词元") if words.vocabulary else ""
    return [
        (tr("tokenizer", "分词器"), words.kind + vocabulary),
        (tr("chat template", "对话模板"), tr("yes", "有") if words.chat_template else tr("no", "无")),
        (tr("stops at", "停止词元"), " ".join(words.stop_tokens) or tr("unknown", "未知")),
    ]


def _parts(info: Info) -> Table:
    table = Table(tr("part", "部分"), tr("parameters", "参数量"), tr("share", "占比"))
    table.columns[1].justify = table.columns[2].justify = "right"
    for name, numbers in info.parts.items():
        label = tr(*PARTS[name]) if name in PARTS else name
        table.add_row(label, f"{numbers:,}", f"{numbers / max(info.parameters, 1):.1%}")
    return table


def _needs(info: Info) -> Table:
    """One row a number format: what serving and training take."""
    title = tr(
        f"memory at batch {info.batch}, {info.length:,} tokens", f"内存（批大小 {info.batch}，{info.length:,} 词元）"
    )
    table = Table(title=title, title_justify="left")
    headings = (
        tr("format", "格式"),
        tr("weights", "权重"),
        tr("cache", "缓存"),
        tr("to serve", "服务共需"),
        tr("in training", "训练状态"),
        tr("activations", "激活"),
        tr("to train", "训练共需"),
    )
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left")
    for name, serve in info.serve.items():
        train = info.train[name]
        states = train["weights"] + train["gradients"] + train["optimiser"]
        cells = (serve["weights"], serve["cache"], serve["total"])
        table.add_row(name, *map(size, (*cells, states, train["activations"], train["total"])))
    return table
