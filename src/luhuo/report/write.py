"""`write_report`: from the artifacts in a folder to one `report.html` that needs nothing else."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from luhuo.core.atomic import write_text
from luhuo.core.language import language, tr
from luhuo.core.pages import templates
from luhuo.report import alignment, collect


def write_report(run_dir: Path, title: str) -> Path:
    """Write `run_dir/report.html` in the user's language and return its path.

    Everything comes from `run_dir/*/` and `summary.json`; model output is escaped, since nobody vouches for it.
    """
    parts = collect.parts_of(run_dir)
    found = collect.evaluations(parts)
    summary = collect.read_summary(run_dir)
    environment = templates("luhuo.report")
    page = environment.get_template("report.html.jinja").render(
        tr=tr,
        language="zh-CN" if language() == "zh" else "en",
        version=version("luhuo"),
        title=title,
        parts=parts,
        summary=summary,
        seconds=sum(part.manifest["duration_s"] for part in parts),
        charts=collect.charts(parts),
        evaluations=found,
        text_rows=collect.text_rows(found),
        family_rows=collect.family_rows(found),
        sample_rows=collect.sample_rows(found),
        comparisons=collect.comparisons(parts),
        reward_models=alignment.reward_models(parts),
        rollouts=alignment.rollouts(parts),
        sources=collect.sources(parts),
        trees=collect.trees(parts),
    )
    path = run_dir / "report.html"
    write_text(path, page)
    return path
