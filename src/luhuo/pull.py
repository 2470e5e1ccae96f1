"""`luhuo pull`: bring a model or data here, and say where it lies and what it is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from luhuo.core.artifact import fixed_folder
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files import aliases
from luhuo.files.readers import list_files
from luhuo.files.references import resolve


def pull(reference: str, to: Path | None) -> None:
    """Fetch a reference, copy it into the folder `to` if one is named, and print path, size and, of a model, licence
    and architecture. Raises `LuhuoError`."""
    found = resolve(reference)
    files = list_files(found.path)
    place = found.path
    if to is not None:
        place = _copy(found.path, files, to)
    total = sum(file.stat().st_size for file in files)
    print(place)
    print(f"  {tr('files', '文件')}: {len(files):,}")
    print(f"  {tr('size', '大小')}: {total / 1e6:,.1f} MB")
    if found.reference != reference:
        print(f"  {tr('reference', '引用')}: {found.reference}")
    is_model = found.path.suffix == ".gguf" or (found.path / "config.json").is_file()
    if is_model:
        _print_model(place, found.licence)
    elif found.licence:
        print(f"  {tr('licence', '许可')}: {found.licence}")


def _print_model(place: Path, licence: str | None) -> None:
    """Architecture, parameters and licence; for a model that Luhuo has no family for, why."""
    from luhuo.model.info import describe

    try:
        info = describe(place)
    except LuhuoError as error:
        print(f"  {tr('architecture', '架构')}: {error.found or '?'} ({error.problem})")
        info = None
    known = (info.licence if info else None) or licence or tr("unknown, see the model's page", "未知，请看模型主页")
    print(f"  {tr('licence', '许可')}: {known}")
    if info:
        print(f"  {tr('architecture', '架构')}: {info.architecture}")
        print(f"  {tr('parameters', '参数量')}: {info.parameters:,}")


def _copy(path: Path, files: list[Path], to: Path) -> Path:
    """Copy the files below `to`, each under a hidden name first; what is there already in full is not copied again."""
    base = path.parent if path.is_file() else path if path.is_dir() else fixed_folder(path)
    for file in files:
        target = to / file.relative_to(base)
        if target.is_file() and _same(target, file):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            shutil.copyfile(file, temporary)
            shutil.copystat(file, temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    return to / path.name if path.is_file() else to


def _same(target: Path, file: Path) -> bool:
    a, b = target.stat(), file.stat()
    return (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns)


def print_aliases() -> None:
    """The short names, those without a model hub first."""
    from rich.console import Console
    from rich.table import Table

    table = Table(tr("name", "名称"), tr("stands for", "代表"), tr("licence", "许可"), tr("needs", "需要"))
    table.columns[0].no_wrap = True
    table.columns[1].overflow = "fold"
    for name, alias in aliases.ALIASES.items():
        reference = alias.reference.partition("#")[0] + (f"\n{alias.mirror}" if alias.mirror else "")
        needs = tr("a model hub", "模型仓库") if alias.needs_hub else tr("a package index", "软件包索引")
        if alias.gated:
            needs += tr(", HF_TOKEN", "、HF_TOKEN")
        table.add_row(name, reference, alias.licence, needs)
    Console().print(table)
