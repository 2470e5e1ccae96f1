"""The report that is made of what became of all candidates: report.json and its page."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from luhuo.compress.report.front import pareto, recommend
from luhuo.compress.report.limits import Limit
from luhuo.compress.report.outcome import Outcome
from luhuo.core.artifact import read_manifest
from luhuo.core.atomic import write_json
from luhuo.core.device import cpu_threads
from luhuo.report.compression.write import write_page

REPORT = "report.json"
SCHEMA = 1


def conclude(
    out: Path,
    outcomes: Sequence[Outcome],
    limits: Sequence[Limit],
    original: dict[str, Any],
    said: dict[str, Any],
    base: Path,
) -> Path:
    """Write `report.json` and `report.html`; the path of the page. `said`: what the report was asked for."""
    candidates = [one.as_dict() for one in outcomes]
    models = [one["figures"] | {"name": one["name"], "label": one["label"]} for one in candidates if one["figures"]]
    advice = recommend(models, limits)
    found: dict[str, Any] | None = None
    if advice is not None:
        chosen = next(one for one in candidates if one["name"] == advice.name)
        found = asdict(advice) | {"path": chosen["path"], "commands": chosen["commands"]}
    drawn = [one for one in models if one["loss"] is not None]
    measured = read_manifest(base)
    hardware = measured["hardware"]
    report: dict[str, Any] = {
        "schema": SCHEMA,
        **said,
        "limits": [asdict(limit) for limit in limits],
        "original": original,
        "candidates": candidates,
        "front": {
            "size": pareto((one["name"], one["size"], one["loss"]["mean"]) for one in drawn),
            "decode_ratio": pareto(
                (one["name"], -one["decode_ratio"], one["loss"]["mean"]) for one in drawn if one["decode_ratio"]
            ),
        },
        "recommendation": found,
        "seconds": measured["duration_s"] + sum(sum(one.seconds.values()) for one in outcomes),
        "machine": f"{hardware['system']} {hardware['machine']}, {cpu_threads()} CPU, Python "
        f"{platform.python_version()}, torch {measured['versions'].get('torch', '')} · {measured['started']}",
    }
    report["settings"]["drawn"] = measured["metrics"]["drawn"]
    write_json(out / REPORT, report)
    return write_page(out, report)
