"""The bench of training on a GPU, at toy size on whatever is here: it measures, and writes what it printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench import gpu_train

GIB = 2**30


@pytest.mark.slow
def test_a_toy_run_prints_a_table_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpu_train.main(["--toy", "--shapes", "moe", "--seconds", "0.01", "--out", str(tmp_path / "gpu.json")])
    told = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    runs = told["results"]["moe"]
    assert told["matmul_flops"] > 0
    assert {"luhuo eager", "luhuo compiled", "luhuo compiled, packed"} <= {each["name"] for each in runs}
    assert all(each["tokens_per_s"] > 0 and each["mfu"] > 0 and 3 < each["loss"] < 5 for each in runs)
    printed = capsys.readouterr().out
    assert all(f"| moe | {each['name']} |" in printed for each in runs)


def test_rows_are_planned_to_fit_the_memory() -> None:
    config, most, length = gpu_train.LARGE["1.3b"]
    rows = [gpu_train.planned_rows(config, most, length, size * GIB) for size in (24, 40, 80, 140, 1000)]
    assert rows == sorted(rows) and rows[0] == 1 and rows[-1] == most


def test_shapes_have_the_size_they_are_named_by() -> None:
    sizes = {name: sum(gpu_train.parameters(shape[0]).values()) for name, shape in gpu_train.LARGE.items()}
    assert 0.3e9 < sizes["0.4b"] < 0.45e9 and 1.2e9 < sizes["1.3b"] < 1.4e9
