"""Artifacts: a stage's result as a directory with a manifest, written atomically, skipped when nothing changed.

Work happens in `OUT/.NAME.partial/` under a lock and is renamed to `OUT/NAME/` when complete.
"""

from __future__ import annotations

import glob
import itertools
import json
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from luhuo.core import card, digest
from luhuo.core.atomic import write_json, write_text
from luhuo.core.device import cpu_threads
from luhuo.core.errors import LuhuoError, RunFailed, from_os_error
from luhuo.core.language import tr
from luhuo.core.metrics import MetricsLog
from luhuo.core.processes import is_main
from luhuo.core.stage import Stage

SCHEMA = 1
MANIFEST = "manifest.json"
FOLLOW_S = 0.2
"""How often a process that waits for an artifact looks for it."""
LINEAGE_FIELDS = ("stage", "digest", "config", "seed", "inputs", "sources")
"""What a manifest keeps of each ancestor (by cache key: two artifacts may have equal content)."""
REFERENCE_SCHEMES = ("pypi:", "hf:", "ms:")
MAGIC = "*?["
"""What makes a path a glob."""


@dataclass
class Workspace:
    """What a running stage is given: where to write, and what to tell the manifest."""

    path: Path
    """The folder that becomes the artifact."""
    metrics: MetricsLog
    """`metrics.jsonl` of this artifact."""
    results: dict[str, Any] = field(default_factory=dict)
    """Headline results for the manifest; a recipe's `require:` looks here."""
    sources: list[dict[str, Any]] = field(default_factory=list)
    """Raw material: {"name", "reference", "sha256", "licence", "bytes"} of every corpus file read."""
    origin: dict[str, Any] = field(default_factory=dict)
    """What the manifest will say of where this comes from, known before the stage runs: for trackers."""


@dataclass(frozen=True)
class Done:
    """A finished artifact."""

    path: Path
    manifest: dict[str, Any]
    reused: bool


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest of an artifact. Raises `LuhuoError` if there is none or its schema is newer than ours."""
    file = Path(path) / MANIFEST
    if not file.is_file():
        raise LuhuoError(tr("This is not a Luhuo artifact.", "这不是炉火的产物目录。"), expected=MANIFEST, where=path)
    manifest = json.loads(file.read_text(encoding="utf-8"))
    if manifest.get("schema", 0) > SCHEMA:
        raise LuhuoError(
            tr("The manifest is from a newer version of Luhuo.", "该清单来自更新版本的炉火。"),
            expected=f"schema <= {SCHEMA}",
            found=manifest.get("schema"),
            where=file,
            fix="pip install --upgrade luhuo",
        )
    return manifest


def owner(path: Path) -> Path | None:
    """The artifact directory that contains `path` (or is it), or None."""
    for folder in (path, *path.parents):
        if (folder / MANIFEST).is_file():
            return folder
    return None


def verify(path: str | Path, only: str | None = None) -> None:
    """Compare the files of an artifact (or one of them) with its manifest; `LuhuoError` at the first difference."""
    root = Path(path)
    for name, entry in read_manifest(root)["files"].items():
        if only not in (None, ".") and name != only and not name.startswith(f"{only}/"):
            continue
        file = root / name
        found = digest.file_digest(file) if file.is_file() else tr("no such file", "文件不存在")
        if found != entry["sha256"]:
            raise LuhuoError(
                tr("A file differs from what its stage wrote.", "文件与其阶段写出的内容不一致。"),
                expected=f"sha256 {entry['sha256'][:16]}…, {entry['bytes']} bytes",
                found=f"sha256 {found[:16]}…" if file.is_file() else found,
                where=file,
                fix=tr(
                    f"Delete {root} and run the recipe again: only that stage and what depends on it are made anew.",
                    f"删除 {root} 后重新运行配方：只会重做该阶段及其下游。",
                ),
            )


def input_record(name: str, value: str) -> dict[str, Any]:
    """Resolve one input of a stage: {"field", "path", "digest"} and, inside an artifact, its lineage.

    The digest of a glob is that of the files it names: their names and contents. Raises `LuhuoError` if the path does
    not exist, the glob names nothing, or its artifact is damaged.
    """
    local = value.removeprefix("gguf:")
    if local.startswith(REFERENCE_SCHEMES):
        return {"field": name, "path": value, "digest": digest.value_digest(value)}
    files = local_files(name, local)
    root = _common_owner(name, local, files)
    record = {"field": name, "path": value}
    if files != [Path(local)]:
        table = {
            file.relative_to(fixed_folder(local)).as_posix(): {"sha256": digest.file_digest(file)} for file in files
        }
        record["digest"] = digest.table_digest(table)
    elif root is None:
        record["digest"] = digest.path_digest(files[0])
    if root is None:
        return record
    manifest = read_manifest(root)
    places = [file.absolute().relative_to(root).as_posix() for file in files]
    for inside in places:
        verify(root, inside)
    if "digest" not in record:
        entry = manifest["files"].get(places[0])
        whole = manifest["digest"] if places == ["."] else None
        record["digest"] = whole or (entry["sha256"] if entry else digest.path_digest(files[0]))
    return record | {"artifact": manifest["key"], "manifest": manifest}


def local_files(name: str, value: str) -> list[Path]:
    """What an input on this disk names: the path itself, or the sorted files of a glob. Raises `LuhuoError`."""
    path = Path(value)
    if path.exists():
        return [path]
    is_glob = any(mark in value for mark in MAGIC)
    found = sorted(Path(hit) for hit in glob.glob(value, recursive=True)) if is_glob else []  # noqa: PTH207 (absolute)
    files = [file for file in found if file.is_file()]
    if files:
        return files
    problem = tr(f"The input “{name}” does not exist.", f"输入“{name}”不存在。")
    if is_glob:
        problem = tr(f"The input “{name}” matches no file.", f"输入“{name}”没有匹配到文件。")
    raise LuhuoError(
        problem,
        expected=tr(
            "a file, a folder, a glob, or a reference such as pypi:NAME==VERSION/PATH",
            "文件、目录、通配，或 pypi:名称==版本/路径 之类的引用",
        ),
        where=value,
        fix=tr("Paths are relative to the folder you run luhuo in.", "路径相对于运行 luhuo 时所在的目录。"),
    )


def fixed_folder(pattern: str | Path) -> Path:
    """The folder of a glob above its first part with a mark: names below it do not depend on where the data lies."""
    return Path(*itertools.takewhile(lambda part: not any(mark in part for mark in MAGIC), Path(pattern).parts))


def _common_owner(name: str, value: str, files: list[Path]) -> Path | None:
    """The artifact that holds the files, or None. Files of several would lose their lineage, so they are refused."""
    roots = {owner(file.absolute()) for file in files}
    if len(roots) > 1:
        raise LuhuoError(
            tr(f"The input “{name}” takes files out of several artifacts.", f"输入“{name}”跨越了多个产物目录。"),
            found=", ".join(sorted(str(root) for root in roots)),
            where=value,
            fix=tr("Name each of them as an input of its own.", "请把它们分别写成独立的输入。"),
        )
    return roots.pop()


def cache_key(stage_name: str, stage: Stage, inputs: list[dict[str, Any]]) -> str:
    """Config with inputs replaced by their digests, plus the stage's name and version."""
    config = stage.model_dump(mode="json", exclude=stage.watch_fields())
    for record in inputs:
        spot: Any = config
        *parents, last = [int(p) if p.isdigit() else p for p in record["field"].split(".")]
        for part in parents:
            spot = spot[part]
        spot[last] = record["digest"]
    return digest.value_digest({"stage": stage_name, "version": stage.version, "config": config})


def current_key(stage_name: str, stage: Stage) -> str:
    """The cache key of a stage over its inputs as they are now."""
    return cache_key(stage_name, stage, [input_record(name, value) for name, value in stage.inputs()])


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path` as a lock file; released by the system when the process dies. Raises `LuhuoError` if it is taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(path), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise LuhuoError(
            tr("Another run is working in this directory.", "另一个任务正在使用这个目录。"),
            where=path.parent,
            fix=tr("Wait for it to end, or choose another --out.", "等它结束，或换一个 --out。"),
        ) from None
    try:
        yield
    finally:
        lock.release()


def produce(
    stage_name: str,
    stage: Stage,
    target: str | Path,
    *,
    force: bool = False,
    watch: Callable[[Path], AbstractContextManager[object]] = nullcontext,
) -> Done:
    """Run a stage into the directory `target`, or return what is there if nothing changed.

    A run that was cut off continues in its partial directory when the stage is resumable. `watch(partial directory)`
    is entered while the stage runs.
    """
    target = Path(target)
    inputs = [input_record(name, value) for name, value in stage.inputs()]
    key = cache_key(stage_name, stage, inputs)
    if not force and is_current(target, key):
        return Done(target, read_manifest(target), reused=True)
    partial = target.parent / f".{target.name}.partial"
    if not is_main():
        return _follow(stage, target, partial, key)
    with locked(target.parent / f".{target.name}.lock"):
        if not force and is_current(partial, key):  # killed between finishing and renaming
            _swap(partial, target)
            return Done(target, read_manifest(target), reused=True)
        _prepare(partial, key, keep=stage.resumable and not force)
        out = Workspace(partial, MetricsLog(partial / "metrics.jsonl"))
        out.origin = _origin(stage_name, stage, inputs, key)
        started = datetime.now(UTC)
        clock = time.perf_counter()
        try:
            with watch(partial):
                stage.run(out)
            manifest = _manifest(stage_name, stage, inputs, key, out)
            manifest |= {
                "started": started.isoformat(timespec="seconds"),
                "duration_s": round(time.perf_counter() - clock, 2),
            }
            if (partial / "config.json").is_file():
                write_text(partial / "README.md", card.model_card(target.name, manifest))
            write_json(partial / MANIFEST, manifest)
        except OSError as error:
            if not partial.is_dir():
                raise RunFailed(
                    tr("The folder of this run was removed while it was written.", "运行目录在写入过程中被删除。"),
                    where=partial,
                    fix=tr("Run the same command again.", "重新运行同一命令。"),
                ) from error
            raise from_os_error(error) or error from error
        _swap(partial, target)
    return Done(target, manifest, reused=False)


def _follow(stage: Stage, target: Path, partial: Path, key: str) -> Done:
    """What the processes beside the first one do: their share of a distributed stage, then wait for the artifact.

    `torchrun` ends all processes when one fails, so that the wait is not forever.
    """
    if stage.distributed:
        stage.run(Workspace(partial, MetricsLog(partial / "metrics.jsonl")))
    while not is_current(target, key):
        time.sleep(FOLLOW_S)
    return Done(target, read_manifest(target), reused=False)


def is_current(target: Path, key: str) -> bool:
    """Whether `target` is a complete artifact made with this cache key."""
    return (target / MANIFEST).is_file() and read_manifest(target).get("key") == key


def _prepare(partial: Path, key: str, *, keep: bool) -> None:
    mark = partial / ".key"
    if partial.exists() and not (keep and mark.is_file() and mark.read_text() == key):
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    write_text(mark, key)


def _swap(partial: Path, target: Path) -> None:
    """Put `partial` in the place of `target`. A kill between the two renames leaves the new one as partial."""
    (partial / ".key").unlink(missing_ok=True)
    old = target.parent / f".{target.name}.old"
    if old.exists():
        shutil.rmtree(old)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    if old.exists():
        shutil.rmtree(old)


def _origin(stage_name: str, stage: Stage, inputs: list[dict[str, Any]], key: str) -> dict[str, Any]:
    plain = [{name: record[name] for name in ("field", "path", "digest")} for record in inputs]
    return {
        "stage": stage_name,
        "key": key,
        "seed": stage.seed,
        "config": stage.model_dump(mode="json"),
        "inputs": plain,
        "versions": _versions(),
    }


def _manifest(stage_name: str, stage: Stage, inputs: list[dict[str, Any]], key: str, out: Workspace) -> dict[str, Any]:
    files = digest.file_table(out.path)
    if not files:
        raise RunFailed(tr("The stage finished and wrote nothing.", "该阶段结束但没有写出任何内容。"), where=out.path)
    ancestors: dict[str, Any] = {}
    for record in inputs:
        parent = record.pop("manifest", None)
        if parent:
            ancestors |= parent.get("ancestors", {})
            ancestors[parent["key"]] = {k: parent[k] for k in LINEAGE_FIELDS}
    return {
        "schema": SCHEMA,
        "stage": stage_name,
        "version": stage.version,
        "key": key,
        "digest": digest.table_digest(files),
        "seed": stage.seed,
        "config": stage.model_dump(mode="json"),
        "inputs": inputs,
        "sources": out.sources,
        "licences": sorted(
            {s["licence"] for m in [*ancestors.values(), {"sources": out.sources}] for s in m["sources"]}
        ),
        "metrics": out.results,
        "files": files,
        "ancestors": ancestors,
        "versions": _versions(),
        "hardware": {"machine": platform.machine(), "system": platform.system(), "cpus": cpu_threads()},
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("luhuo", "torch", "tokenizers", "numpy"):
        if name == "luhuo" or name in sys.modules:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
    return found
