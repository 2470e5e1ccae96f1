"""Configuration, digests, artifacts, lineage: the ground floor."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from luhuo.core import artifact, atomic, digest, lineage
from luhuo.core.config import Config, Input, field
from luhuo.core.errors import LuhuoError
from luhuo.core.language import language, tr
from luhuo.core.metrics import MetricsLog
from luhuo.core.seeds import derive_seed
from tests.small_stages import JoinStage, WriteStage


class Inner(Config):
    path: Input = field("a.txt", "Path.", "路径。")


class Outer(Config):
    width: int = field(3, "Width.", "宽度。", ge=1)
    inner: Inner = field(Inner(), "Nested.", "嵌套。")
    parts: list[Input] = field([], "Parts.", "部分。")
    named: dict[str, Inner] = field({}, "Named.", "命名。")
    maybe: Input | None = field(None, "Perhaps.", "可选。")
    label: str = field("x", "No input.", "非输入。")


def test_unknown_key_names_the_nearest_known_one():
    with pytest.raises(LuhuoError, match="widht") as caught:
        Outer.parse({"widht": 4})
    assert "“width”" in str(caught.value)


def test_unknown_nested_key_names_the_nearest_in_its_own_config():
    with pytest.raises(LuhuoError) as caught:
        Outer.parse({"inner": {"pth": "b"}})
    assert "“path”" in str(caught.value)


def test_all_mistakes_of_a_config_come_in_one_message():
    with pytest.raises(LuhuoError) as caught:
        Outer.parse({"width": 0, "lable": "y"}, where="recipe.yaml")
    assert all(part in str(caught.value) for part in ("width", "lable", "recipe.yaml"))


def test_config_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Outer().width = 5  # type: ignore[misc]


def test_inputs_are_found_in_lists_dicts_and_nested_configs():
    config = Outer(parts=["p", "q"], named={"n": Inner(path="r")}, maybe="m")
    assert dict(config.inputs()) == {
        "inner.path": "a.txt",
        "parts.0": "p",
        "parts.1": "q",
        "named.n.path": "r",
        "maybe": "m",
    }


def test_messages_follow_the_language_setting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LUHUO_LANG", "zh_CN.UTF-8")
    assert (language(), tr("a", "甲")) == ("zh", "甲")
    monkeypatch.setenv("LUHUO_LANG", "en")
    assert tr("a", "甲") == "a"


def test_derived_seeds_differ_by_name_and_do_not_depend_on_the_process():
    code = "from luhuo.core.seeds import derive_seed; print(derive_seed(7, 'a'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert derive_seed(7, "a") == int(other.stdout)
    assert len({derive_seed(7, "a"), derive_seed(7, "b"), derive_seed(8, "a")}) == 3


def test_a_failed_atomic_write_leaves_the_old_content_and_no_rubbish(tmp_path: Path):
    target = tmp_path / "f.txt"
    atomic.write_text(target, "old")

    def half_write() -> None:
        with atomic.atomic_path(target) as temporary:
            temporary.write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_write()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f.txt"]


def test_metrics_log_survives_a_cut_line_and_goes_back_to_a_step(tmp_path: Path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in range(4):
        log.write(step=step)
    with log.path.open("a") as handle:
        handle.write('{"step": 4, "lo')
    log.keep_until(2)
    assert [row["step"] for row in log.read()] == [0, 1, 2]


def test_artifact_digest_ignores_manifest_logs_and_hidden_files(tmp_path: Path):
    (tmp_path / "a.txt").write_text("a")
    before = digest.table_digest(digest.file_table(tmp_path))
    for name in ("manifest.json", "metrics.jsonl", "run.log", ".key"):
        (tmp_path / name).write_text("x")
    assert digest.table_digest(digest.file_table(tmp_path)) == before
    (tmp_path / "a.txt").write_text("b")
    assert digest.table_digest(digest.file_table(tmp_path)) != before


def test_a_stage_is_skipped_until_its_config_or_input_changes(tmp_path: Path):
    part = tmp_path / "part.txt"
    part.write_text("one")
    stage = JoinStage(parts=[str(part)])
    assert not artifact.produce("join", stage, tmp_path / "j").reused
    assert artifact.produce("join", stage, tmp_path / "j").reused
    part.write_text("two")
    assert not artifact.produce("join", stage, tmp_path / "j").reused
    assert not artifact.produce("join", JoinStage(parts=[str(part)], seed=1), tmp_path / "j").reused
    assert (tmp_path / "j" / "joined.txt").read_text() == "two\n"


def test_a_changed_stage_name_or_forced_run_is_made_anew(tmp_path: Path):
    stage = WriteStage(text="x")
    artifact.produce("write", stage, tmp_path / "w")
    assert not artifact.produce("write2", stage, tmp_path / "w").reused
    assert not artifact.produce("write2", stage, tmp_path / "w", force=True).reused


def test_a_damaged_file_of_an_input_artifact_is_named(tmp_path: Path):
    artifact.produce("write", WriteStage(text="x"), tmp_path / "w")
    (tmp_path / "w" / "text.txt").write_text("y")
    with pytest.raises(LuhuoError, match=r"differs") as caught:
        artifact.produce("join", JoinStage(parts=[str(tmp_path / "w" / "text.txt")]), tmp_path / "j")
    assert "text.txt" in str(caught.value)
    assert not (tmp_path / "j").exists()


def test_a_file_inside_an_artifact_depends_only_on_its_own_digest(tmp_path: Path):
    artifact.produce("write", WriteStage(text="x"), tmp_path / "w")
    join = JoinStage(parts=[str(tmp_path / "w" / "more" / "extra.txt")])
    artifact.produce("join", join, tmp_path / "j")
    artifact.produce("write", WriteStage(text="changed"), tmp_path / "w")
    assert artifact.produce("join", join, tmp_path / "j").reused


def test_a_missing_input_is_one_message(tmp_path: Path):
    with pytest.raises(LuhuoError, match=r"parts\.0"):
        artifact.produce("join", JoinStage(parts=["nowhere.txt"]), tmp_path / "j")


def test_a_killed_resumable_stage_continues_where_it_stopped(tmp_path: Path):
    for i in range(3):
        (tmp_path / f"{i}.txt").write_text(str(i))
    code = (
        "from luhuo.core.artifact import produce\nfrom tests.small_stages import JoinStage\n"
        f"parts = [f'{tmp_path}/{{i}}.txt' for i in range(3)]\n"
        f"done = produce('join', JoinStage(parts=parts, die_after=2), '{tmp_path}/j')\n"
        "print(done.manifest['metrics'])"
    )
    first = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert first.returncode == -9
    assert not (tmp_path / "j").exists()
    second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'resumed_at': 2" in second.stdout
    assert (tmp_path / "j" / "joined.txt").read_text() == "0\n1\n2\n"


def test_a_complete_partial_directory_is_only_renamed(tmp_path: Path):
    stage = WriteStage(text="x")
    artifact.produce("write", stage, tmp_path / "w")
    (tmp_path / "w").rename(tmp_path / ".w.partial")
    assert artifact.produce("write", stage, tmp_path / "w").reused


def test_two_runs_in_one_directory_are_refused(tmp_path: Path):
    with artifact.locked(tmp_path / ".w.lock"), pytest.raises(LuhuoError, match="Another run"):
        artifact.produce("write", WriteStage(text="x"), tmp_path / "w")


def test_lineage_reaches_the_sources_and_names_a_shared_ancestor_once(tmp_path: Path):
    artifact.produce("write", WriteStage(text="x"), tmp_path / "w")
    parts = [str(tmp_path / "w" / "text.txt"), str(tmp_path / "w" / "more" / "extra.txt")]
    artifact.produce("join", JoinStage(parts=parts), tmp_path / "j")
    artifact.produce("join", JoinStage(parts=[str(tmp_path / "j" / "joined.txt")]), tmp_path / "k")
    lines = [line for _, line in lineage.lineage(tmp_path / "k")]
    assert sum("poem [CC0] nowhere" in line for line in lines) == 1
    assert lines[0].startswith("join") and any("parts.0: write" in line for line in lines)


def test_manifest_holds_config_inputs_licences_and_versions(tmp_path: Path):
    done = artifact.produce("write", WriteStage(text="x", seed=3), tmp_path / "w")
    manifest = json.loads((tmp_path / "w" / "manifest.json").read_text())
    assert manifest == done.manifest
    assert manifest["seed"] == 3 and manifest["licences"] == ["CC0"] and manifest["config"]["text"] == "x"
    assert "python" in manifest["versions"] and manifest["metrics"] == {"score": 1.0}


def test_a_manifest_of_a_newer_schema_is_refused(tmp_path: Path):
    (tmp_path / "manifest.json").write_text('{"schema": 99}')
    with pytest.raises(LuhuoError, match="newer version"):
        artifact.read_manifest(tmp_path)
