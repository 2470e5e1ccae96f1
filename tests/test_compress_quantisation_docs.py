"""The commands in docs/compression-quantisation.md work as they stand there, in both languages."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from luhuo.core.artifact import produce
from luhuo.stages import configured
from tests.compress_cases import calibration_text, report_of, small_directory

DOCS = Path(__file__).parents[1] / "docs"


def commands(file: str) -> list[str]:
    text = (DOCS / file).read_text(encoding="utf-8")
    return [line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


def test_both_languages_show_the_same_commands() -> None:
    assert commands("compression-quantisation.md") == commands("compression-quantisation.zh.md")


@pytest.mark.parametrize("command", commands("compression-quantisation.md"))
def test_the_command_works(command: str, tmp_path: Path) -> None:
    words = shlex.split(command)
    assert words[:2] == ["luhuo", "quantize"] and words[-2] == "--out"
    values = {key: yaml.safe_load(value) for key, value in (word.split("=", 1) for word in words[2:-2])}
    values |= {"model": str(small_directory(tmp_path / "model")), "data": str(calibration_text(tmp_path))}
    produce("quantize", configured("quantize", values | {"sequences": 4, "length": 48, "threads": 1}), tmp_path / "o")
    assert len(report_of(tmp_path / "o")) == 8
