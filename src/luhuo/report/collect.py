"""What the report shows, gathered from the artifacts in a run's folder. Pages are made from files, not from memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from luhuo.core.artifact import MANIFEST, read_manifest
from luhuo.core.language import tr
from luhuo.core.lineage import lineage
from luhuo.core.metrics import MetricsLog
from luhuo.report.charts import Chart, line_chart

HEADLINE = 5
MOST_SAMPLES = 60


@dataclass(frozen=True)
class Part:
    """One artifact of the run."""

    name: str
    path: Path
    manifest: dict[str, Any]

    @property
    def bytes(self) -> int:
        """Size of its payload."""
        return sum(entry["bytes"] for entry in self.manifest["files"].values())

    @property
    def headline(self) -> list[tuple[str, str]]:
        """The first numbers among its results."""
        numbers = [(k, v) for k, v in self.manifest["metrics"].items() if isinstance(v, (int, float))]
        main = [(k, v) for k, v in numbers if not k.endswith((".low", ".high", ".chance", ".n"))]
        return [(k, f"{v:,.3f}" if isinstance(v, float) else f"{v:,}") for k, v in main[:HEADLINE]]


@dataclass(frozen=True)
class Evaluation:
    """The scores of one model, under the model's name."""

    label: str
    part: Part
    scores: dict[str, Any]
    samples: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def how(self) -> str:
        """How the items were asked."""
        settings = self.scores["settings"]
        if settings["mode"] == "chat":
            return tr("chat", "对话")
        return tr(f"{settings['shots']} examples", f"{settings['shots']} 个示例")


def parts_of(run: Path) -> list[Part]:
    """The finished artifacts in a folder, in the order they were made."""
    folders = [p.parent for p in run.glob(f"*/{MANIFEST}") if not p.parent.name.startswith(".")]
    parts = [Part(folder.name, folder, read_manifest(folder)) for folder in folders]
    ancestors = {part.name: len(part.manifest["ancestors"]) for part in parts}
    return sorted(parts, key=lambda p: (p.manifest["started"], ancestors[p.name], p.name))


def evaluations(parts: list[Part]) -> list[Evaluation]:
    """The evaluations of the run, each named after its model (and itself, where one model has several)."""
    found = [part for part in parts if (part.path / "scores.json").is_file()]
    models = [_model_name(part) for part in found]
    labels = [m if models.count(m) == 1 else f"{m} ({p.name})" for m, p in zip(models, found, strict=True)]
    return [
        Evaluation(label, part, _read_json(part.path / "scores.json"), {row["id"]: row for row in _samples(part)})
        for label, part in zip(labels, found, strict=True)
    ]


def _model_name(part: Part) -> str:
    for record in part.manifest["inputs"]:
        if record["field"] == "model":
            return PurePosixPath(record["path"]).name or part.name
    return part.name


def _samples(part: Part) -> Iterator[dict[str, Any]]:
    path = part.path / "samples.jsonl"
    if path.is_file():
        with path.open(encoding="utf-8") as handle:
            yield from map(json.loads, handle)


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def charts(parts: list[Part]) -> list[Chart]:
    """Loss, held-out bits per byte, reward by step: runs of one stage over one another."""
    logs = {part.name: MetricsLog(part.path / "metrics.jsonl").read() for part in parts}
    drawn = []
    measures = (
        ("loss", tr("training loss", "训练损失"), tr("loss (nats per token)", "损失（奈特/词元）")),
        ("valid_bpb", tr("held-out text", "留出文本"), tr("bits per byte", "每字节比特数")),
        ("reward", tr("reward", "奖励"), tr("mean reward of a round", "每轮平均奖励")),
        ("accuracy", tr("preferences", "偏好"), tr("share of pairs told apart", "正确区分的偏好对比例")),
    )
    for stage in dict.fromkeys(part.manifest["stage"] for part in parts):
        names = [part.name for part in parts if part.manifest["stage"] == stage]
        for key, what, label in measures:
            curves = {
                n: [(r["step"], r[key]) for r in logs[n] if "step" in r and r.get(key) is not None] for n in names
            }
            chart = line_chart(f"{stage}: {what}", tr("step", "步"), label, curves)
            if chart:
                drawn.append(chart)
    return drawn + reliability(parts)


def reliability(parts: list[Part]) -> list[Chart]:
    """Of each reward model: how often it is right where it says how sure it is; the diagonal would be calibrated."""
    drawn = []
    for part in parts:
        file = part.path / "reward.json"
        bins = _read_json(file).get("calibration", {}).get("bins", []) if file.is_file() else []
        points = [(one["confidence"], one["accuracy"]) for one in bins]
        ideal = [(points[0][0], points[0][0]), (points[-1][0], points[-1][0])] if len(points) > 1 else []
        sure, right = tr("confidence", "置信度"), tr("share right", "正确比例")
        names = {part.name: points, tr("calibrated", "完全校准"): ideal}
        chart = line_chart(f"{part.name}: {tr('reliability', '可靠性')}", sure, right, names)
        if chart:
            drawn.append(chart)
    return drawn


def text_rows(found: list[Evaluation]) -> list[dict[str, Any]]:
    """Bits per byte: a row a language and a source, with each model's figure beside xz on the same text."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for evaluation in found:
        for kind in ("languages", "sources"):
            for name, score in evaluation.scores.get("bits_per_byte", {}).get(kind, {}).items():
                row = rows.setdefault((kind, name), {"kind": kind, "name": name, "xz": score["xz"], "scores": {}})
                row["bytes"] = score["bytes"]
                row["scores"][evaluation.label] = score["bits_per_byte"]
    return [rows[key] for key in sorted(rows)]


def family_rows(found: list[Evaluation]) -> list[dict[str, Any]]:
    """Accuracy: a row a family (the mean first), with each model's figure, interval and chance."""
    names = sorted({name for e in found for name in e.scores.get("accuracy", {}).get("families", {})})
    rows: list[dict[str, Any]] = [{"name": None, "scores": {}}, *({"name": n, "scores": {}} for n in names)]
    for evaluation in found:
        accuracy = evaluation.scores.get("accuracy")
        if accuracy:
            for row in rows:
                score = accuracy["families"].get(row["name"]) if row["name"] else accuracy["mean"]
                if score:
                    row["scores"][evaluation.label] = score
    return rows if names else []


def sample_rows(found: list[Evaluation]) -> list[dict[str, Any]]:
    """The same question with each model's answer. Questions that all models were asked come first."""
    with_samples = [e for e in found if e.samples]
    ids = dict.fromkeys(key for e in with_samples for key in e.samples)
    rows = []
    for key in sorted(ids, key=lambda i: -sum(i in e.samples for e in with_samples)):
        first = next(e.samples[key] for e in with_samples if key in e.samples)
        replies = [(e.label, e.samples[key]) for e in with_samples if key in e.samples]
        rows.append({k: first[k] for k in ("family", "lang", "question", "answer")} | {"replies": replies})
    return rows[:MOST_SAMPLES]


def sources(parts: list[Part]) -> list[dict[str, Any]]:
    """Raw material of the whole run, each once."""
    nodes = [node for part in parts for node in (part.manifest, *part.manifest["ancestors"].values())]
    unique = {(s["name"], s["reference"]): s for node in nodes for s in node["sources"]}
    return [unique[key] for key in sorted(unique)]


def trees(parts: list[Part]) -> list[tuple[str, list[tuple[int, str]]]]:
    """The family tree of every model in the run that no other model of it descends from."""
    models = [part for part in parts if (part.path / "config.json").is_file()] or parts[-1:]
    inside = {digest for part in models for digest in part.manifest["ancestors"]}
    return [(p.name, list(lineage(p.path))) for p in models if p.manifest["digest"] not in inside]


def comparisons(parts: list[Part]) -> list[tuple[str, dict[str, Any]]]:
    """The paired comparisons of the run."""
    files = [(part.name, part.path / "comparison.json") for part in parts]
    return [(name, _read_json(path)) for name, path in files if path.is_file()]


def read_summary(run: Path) -> dict[str, Any]:
    """The recipe's `summary.json`, or nothing where stages were run by hand."""
    path = run / "summary.json"
    return _read_json(path) if path.is_file() else {}
