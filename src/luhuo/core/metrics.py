"""`metrics.jsonl`: one JSON object a line, appended while a job runs, cut back when it resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from luhuo.core.atomic import write_text


class MetricsLog:
    """Append-only log of numbers by step."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def write(self, **values: Any) -> None:
        """Append one line; it is on its way to the disk when this returns."""
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(values, ensure_ascii=False) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All complete lines; a line cut off by a kill is ignored."""
        rows = []
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError:
                    continue
        return rows

    def keep_until(self, step: int) -> None:
        """Drop the lines of steps after `step`: they will be made again by the resumed run."""
        if not self.path.exists():
            return
        rows = [row for row in self.read() if row.get("step", 0) <= step]
        write_text(self.path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
