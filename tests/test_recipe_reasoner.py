"""The road of R1 at test size: every step is there, and each is compared with the one before."""

from __future__ import annotations

import json
from pathlib import Path

from tests.command_line import ROOT, luhuo

STEPS = (("base", "zero"), ("base", "cold"), ("cold", "reasoner"), ("reasoner", "second"), ("second", "aligned"))


def test_the_road_ends_with_a_comparison_of_each_step_and_lessons_for_a_smaller_model(tmp_path: Path) -> None:
    done = luhuo("run", str(ROOT / "recipes/reasoner.yaml"), "--variant", "test", "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr[-4000:]
    for before, after in (*STEPS, ("small_alone", "small")):
        found = json.loads((tmp_path / "run" / f"{before}_to_{after}" / "comparison.json").read_text())
        assert found["n"] > 0 and found["only_in_one"] == 0
    lessons = (tmp_path / "run/lessons/conversations.jsonl").read_text(encoding="utf-8").splitlines()
    assert lessons and all(json.loads(line)["messages"][0]["role"] == "system" for line in lessons)
    small, large = (
        json.loads((tmp_path / "run" / name / "manifest.json").read_text())["files"]["model.safetensors"]["bytes"]
        for name in ("small", "aligned")
    )
    assert small <= large
