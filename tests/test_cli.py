"""The command line: exit codes, one message a mistake, light imports, both languages."""

from __future__ import annotations

import functools
import os
import re
import signal
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


def test_no_english_word_is_left_in_a_chinese_help_page():
    for words in (["--help"], [], ["run", "--help"], ["chat", "-h"], ["pull", "--help"], ["info", "-h"]):
        page = luhuo(*words, lang="zh")
        left = re.findall(
            r"Usage|Options|Commands?\b|Arguments|required|default|Show this|OPTIONS|COMMAND|ARGS", page.stdout
        )
        assert page.returncode == 0 and "用法：luhuo" in page.stdout and not left


@pytest.mark.parametrize(
    ("words", "english", "chinese"),
    [
        (("doctr",), "No such command 'doctr'. Did you mean 'doctor'?", "没有这个命令：doctr。是不是 'doctor'？"),
        (("run",), "Missing argument 'recipe'.", "缺少参数：recipe。"),
        (("run", "a", "--bad"), "No such option: --bad", "没有这个选项：--bad。"),
        (("chat", "a", "--seed", "y"), "Invalid value for '--seed': ", "--seed 的值无效：应为整数。"),
        (("lineage", "a", "b"), "unexpected extra argument", "多余的参数：b。"),
        (("run", "a", "--only"), "requires an argument", "选项 --only 需要一个值。"),
    ],
)
def test_a_mistake_on_the_command_line_is_told_in_both_languages(words: tuple[str, ...], english: str, chinese: str):
    for lang, said in (("en", english), ("zh", chinese)):
        result = luhuo(*words, lang=lang)
        assert (result.returncode, result.stdout) == (2, "") and result.stderr.startswith("luhuo: ")
        assert said in result.stderr and "--help" in result.stderr


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_says_so_and_exits_with_75(kind: signal.Signals, tmp_path: Path):
    environment = os.environ | {"LUHUO_LANG": "en"}
    command = [sys.executable, "-m", "luhuo", "world", "--out", str(tmp_path / "world")]
    # A shell that puts the tests into the background has them ignore SIGINT, and what they start would too.
    heed = functools.partial(signal.signal, kind, signal.SIG_DFL)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=heed) as run:
        while not (tmp_path / ".world.partial").exists():
            assert run.poll() is None
        run.send_signal(kind)
        told = run.communicate()[1]
    assert run.returncode == 75 and "The same command continues" in told and "Traceback" not in told


@pytest.mark.parametrize("stage", ["world", "pretrain", "sft", "evaluate"])
def test_explain_shows_fields_with_descriptions_in_both_languages(stage: str):
    english, chinese = luhuo("explain", stage).stdout, luhuo("explain", stage, lang="zh").stdout
    assert "seed" in english and "Seed of everything random" in english
    assert "本阶段所有随机性的种子" in chinese
    shown = luhuo(stage, "--help").stdout
    assert "luhuo explain evaluate" in shown if stage == "evaluate" else shown == english  # it has options of its own


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
