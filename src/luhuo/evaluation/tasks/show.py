"""A task as a person reads it: what it asks, how it is scored, and an item as the model sees it."""

from __future__ import annotations

from luhuo.core.language import tr
from luhuo.evaluation.tasks.catalogue import Task
from luhuo.evaluation.tasks.documents import Document, document, documents, prepared
from luhuo.evaluation.tasks.requests import Asked, Asker
from luhuo.evaluation.tasks.sources import folder_of


def described(task: Task, data: str | None = None, shots: int | None = None) -> str:
    """Several lines about a task, with an item of its `data`, or the one in its file. Raises `LuhuoError`."""
    spec = task.spec
    lines = [
        f"{spec.task} v{spec.version}: {spec.summary.text}",
        f"{tr('kind', '类型')}: {spec.kind}",
        f"{tr('metrics', '指标')}: {', '.join(spec.metrics)}",
        f"{tr('source', '出处')}: {spec.source}",
        f"{tr('licence of the data', '数据许可证')}: {spec.licence}",
        f"{tr('data', '数据')}: {_places(task)}",
        f"{tr('examples', '示例')}: {spec.shots.count} ({spec.shots.split})",
    ]
    if spec.kind == "generation":
        lines.append(f"{tr('generation', '生成')}: {spec.generation.model_dump()}")
        lines += [f"{tr('extraction', '提取')} {name}: {way.pick} {way.pattern}" for name, way in spec.extract.items()]
    if spec.python:
        lines.append(f"Python: {spec.python}")
    item = _item(task, data, shots)
    if item is None:
        shown = spec.prompt or spec.prompts or spec.text or spec.turns
        return "\n".join([*lines, *([f"{tr('template', '模板')}:\n{shown}"] if shown else [])])
    return "\n".join([*lines, "", *_shown(Asker(task).ask(item))])


def _places(task: Task) -> str:
    given = task.spec.data
    wanted = [one.files[task.spec.split] for one in given.layouts if task.spec.split in one.files]
    return tr(" or ", " 或 ").join([*wanted, *([given.hub] if given.hub else [])]) or tr("made by rule", "按规则生成")


def _item(task: Task, data: str | None, shots: int | None) -> Document | None:
    if data is not None:
        return documents(task, folder_of(task, data), limit=1, seed=0, shots=shots)[0]
    rows = list(prepared(task, [dict(task.spec.example)])) if task.spec.example else []
    return document(task, 0, rows[0]) if rows else None


def _shown(asked: Asked) -> list[str]:
    """The request of an item, piece by piece."""
    lines = []
    for prompt in asked.prompts or asked.turns or (asked.text,):
        text = prompt if isinstance(prompt, str) else "\n".join(f"{m['role']}: {m['content']}" for m in prompt)
        lines += [f"──── {tr('prompt', '提示')}", text]
    if asked.continuations:
        lines.append(f"──── {tr('scored behind it', '其后打分')}")
        marks = asked.right or (0,) * len(asked.continuations)
        lines += [f"{'✓' if mark else ' '} {text!r}" for text, mark in zip(asked.continuations, marks, strict=True)]
    if asked.reference is not None:
        lines += [f"──── {tr('reference', '参考答案')}", asked.reference]
    return lines
