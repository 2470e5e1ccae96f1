"""The command line: exit codes, one message a mistake, light imports, both languages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from luhuo.core.errors import LuhuoError


def luhuo(*words: str, lang: str = "en", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"LUHUO_LANG": lang, "COLUMNS": "120"}
    command = [sys.executable, "-m", "luhuo", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd)


def imported_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_importing_luhuo_imports_neither_torch_nor_numpy():
    assert not {"torch", "numpy", "tokenizers"} & imported_by("import luhuo")


def test_no_stage_config_imports_torch():
    from luhuo.stages import STAGES

    statement = "from luhuo.stages import STAGES, stage_class\nfor name in STAGES: stage_class(name)"
    assert len(STAGES) >= 8
    assert "torch" not in imported_by(statement)


def test_help_lists_every_stage_and_imports_no_torch():
    from luhuo.stages import STAGES

    result = luhuo("--help")
    assert result.returncode == 0
    assert all(name in result.stdout for name in STAGES)
    assert "torch" not in imported_by("import luhuo.cli")


def test_help_and_messages_are_chinese_on_request():
    assert "列出所有阶段" in luhuo("--help", lang="zh").stdout
    assert "没有这个配方文件" in luhuo("run", "nowhere.yaml", lang="zh").stderr


@pytest.mark.parametrize("stage", ["world", "pretrain", "sft", "evaluate"])
def test_explain_shows_fields_with_descriptions_in_both_languages(stage: str):
    english, chinese = luhuo("explain", stage).stdout, luhuo("explain", stage, lang="zh").stdout
    assert "seed" in english and "Seed of everything random" in english
    assert "本阶段所有随机性的种子" in chinese
    assert luhuo(stage, "--help").stdout == english


def test_every_field_of_every_stage_is_described_in_both_languages():
    from luhuo.stages import STAGES, stage_class

    for name in STAGES:
        for field, info in stage_class(name).model_fields.items():
            extra = info.json_schema_extra
            assert info.description, f"{name}.{field}"
            assert isinstance(extra, dict) and extra.get("zh"), f"{name}.{field}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "nowhere.yaml"), "no such recipe"),
        (("pretrain", "sise=3m"), "unknown key"),
        (("pretrain", "size"), "not a setting"),
        (("explain", "pretrian"), "“pretrain”"),
        (("lineage", "/tmp"), "not a Luhuo artifact"),
        (("chat", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(words: tuple[str, ...], message: str, tmp_path: Path):
    result = luhuo(*words, cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr and "Traceback" not in result.stderr


def test_values_on_the_command_line_are_yaml():
    from luhuo.cli import parse_pairs

    assert parse_pairs(["a=1", "b=[x, y]", "c=true", "d=x=y"], "test") == {
        "a": 1,
        "b": ["x", "y"],
        "c": True,
        "d": "x=y",
    }
    with pytest.raises(LuhuoError):
        parse_pairs(["a=[1"], "test")
