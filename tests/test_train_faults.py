"""What may befall a run: kills at any moment, a full disk, flipped bits, a process that dies, signals, bad losses."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from luhuo.core.artifact import Workspace, produce
from luhuo.core.errors import EXIT_FAILED, EXIT_INTERRUPTED, LuhuoError, RunFailed, from_os_error
from luhuo.core.metrics import MetricsLog
from luhuo.core.stage import Stage
from luhuo.corpus.loader import PackedLoader
from luhuo.train import checkpoint
from luhuo.train.guard import IN_A_ROW, LossGuard
from tests.fault_runs import Run, together
from tests.objective_runs import material

OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")
RUN = Run("causal", settings={"steps": 12, "keep": 1, "keep_best": "score", "eval_every": 1})
"""It spends most of its time on writing, naming and removing checkpoints, and keeps none to fall back to."""


def same(one: Path, other: Path) -> bool:
    first, second = (load_file(folder / "result.safetensors") for folder in (one, other))
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def kill_at(number: int, run: Run, rank: int) -> None:
    """SIGKILL in the place of the file operation of this number among those on checkpoints and metrics."""
    left = [number]

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        if event in OPERATIONS and isinstance(arguments[0], str | os.PathLike):
            name = os.fspath(arguments[0])
            left[0] -= isinstance(name, str) and name.startswith(str(run.folder)) and "rank-" not in name
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def last_step(folder: Path) -> int:
    return max((row["step"] for row in MetricsLog(folder / "metrics.jsonl").read()), default=0)


def killed(folder: Path, seed: int, kills: int, background: bool) -> None:
    """Kill a run so many times, and compare its end with that of one that was left alone."""
    run = Run(RUN.case, settings=RUN.settings | {"background": background})
    assert together(run.at(folder / "straight")) == [0]
    chance, reached, count = random.Random(seed), 0, 0
    while count < kills:
        cut = run.at(folder / "cut", before=partial(kill_at, chance.randrange(1, 80)))
        code = together(cut)[0]
        if code == 0:
            assert same(folder / "straight", folder / "cut")
            shutil.rmtree(folder / "cut")
            reached = 0
            continue
        assert code == -signal.SIGKILL, (folder / "cut" / "rank-0.txt").read_text()
        count += 1
        checkpoint.tidy(folder / "cut" / ".checkpoint")
        found = checkpoint.read_last(folder / "cut" / ".checkpoint")
        step = 0 if found is None else found.step
        assert step >= reached, "a checkpoint was lost"
        assert last_step(folder / "cut") <= step + 2, "more was lost than since the last checkpoint"
        reached = step
    assert together(run.at(folder / "cut")) == [0]
    assert same(folder / "straight", folder / "cut")
    assert [row["step"] for row in MetricsLog(folder / "cut" / "metrics.jsonl").read() if "loss" in row] == [
        *range(1, 13)
    ]


@pytest.mark.parametrize("background", [True, False])
def test_killed_ten_times_in_any_file_operation_a_run_loses_no_checkpoint(tmp_path: Path, background: bool) -> None:
    killed(tmp_path, 1, 10, background)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_killed_thirty_times_in_any_file_operation_a_run_loses_no_checkpoint(tmp_path: Path, seed: int) -> None:
    killed(tmp_path, seed, 30, background=True)


def fill_disk(limit: int, run: Run, rank: int) -> None:
    """From the third checkpoint on no file may be larger than `limit` bytes: writing one fails as on a full disk."""
    named: list[str] = []

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and str(arguments[1]).endswith(("step-000000002",)) and not named:
            named.append(str(arguments[1]))
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    sys.addaudithook(count)


@pytest.mark.parametrize("background", [True, False])
def test_a_disk_that_fills_up_stops_the_run_with_one_message_and_keeps_the_last_checkpoint(
    tmp_path: Path, background: bool
) -> None:
    run = Run("causal", settings={"background": background})
    assert together(run.at(tmp_path / "straight")) == [0]
    assert together(run.at(tmp_path / "full", before=partial(fill_disk, 10_000))) == [EXIT_FAILED]
    told = (tmp_path / "full" / "rank-0.txt").read_text()
    assert told.count("The disk is full") == 1 and "safetensors" in told and "Traceback" not in told
    left = [path.name for path in (tmp_path / "full" / ".checkpoint").iterdir()]
    assert sorted(left) == ["step-000000001", "step-000000002"]
    assert together(run.at(tmp_path / "full")) == [0]
    assert same(tmp_path / "straight", tmp_path / "full")


def flip(file: Path, seed: int) -> None:
    """One bit of a file, somewhere."""
    content = bytearray(file.read_bytes())
    at = random.Random(seed).randrange(8 * len(content))
    content[at // 8] ^= 1 << at % 8
    file.write_bytes(content)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A straight run, and one that was killed after some checkpoints."""
    folder = tmp_path_factory.mktemp("stopped")
    assert together(RUN.at(folder / "straight", settings={})) == [0]
    settings = {"background": False, "prefetch": 0}
    assert together(RUN.at(folder / "cut", settings=settings, signals={5: signal.SIGKILL})) == [-signal.SIGKILL]
    return folder


def test_any_flipped_bit_of_a_checkpoint_is_found_and_its_file_named(
    stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stopped / "cut" / ".checkpoint"
    steps = sorted(folder.glob("step-*"))
    assert [path.name for path in steps] == ["step-000000004", "step-000000005"]
    for file in sorted(steps[-1].iterdir()):
        for seed in range(40 if file.name == "index.json" else 4):
            damaged = tmp_path / f"{file.name}-{seed}"
            shutil.copytree(folder, damaged)
            flip(damaged / steps[-1].name / file.name, seed)
            found = checkpoint.read_last(damaged)
            assert found is not None and found.step == 4, (file, seed)
            assert str(damaged / steps[-1].name / file.name) in capsys.readouterr().err


def test_after_a_damaged_checkpoint_a_run_goes_on_from_the_one_before_it(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped / "cut", tmp_path / "run")
    flip(tmp_path / "run" / ".checkpoint" / "step-000000005" / "model.safetensors", 0)
    assert together(RUN.at(tmp_path / "run", settings={})) == [0]
    assert same(stopped / "straight", tmp_path / "run")


def test_when_all_checkpoints_are_damaged_the_run_says_so_and_does_not_begin_anew(
    stopped: Path, tmp_path: Path
) -> None:
    shutil.copytree(stopped / "cut", tmp_path / "run")
    for folder in (tmp_path / "run" / ".checkpoint").iterdir():
        flip(folder / "optimiser.safetensors", 0)
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert together(RUN.at(tmp_path / "run", settings={})) == [EXIT_FAILED]
    told = (tmp_path / "run" / "rank-0.txt").read_text()
    assert "No checkpoint of this run can be read" in told and "delete" in told and "optimiser.safetensors" in told
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


def test_damaged_best_weights_are_no_result(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped / "cut" / ".checkpoint" / "step-000000005", tmp_path / "best")
    flip(tmp_path / "best" / "model.safetensors", 1)
    with pytest.raises(RunFailed, match=r"model\.safetensors"):
        checkpoint.read_best(tmp_path)
    assert checkpoint.read_best(stopped) is None


@pytest.mark.parametrize("name", ["step-000000002", checkpoint.BEST])
def test_a_checkpoint_cut_off_between_its_two_names_is_found_again(tmp_path: Path, name: str) -> None:
    for folder in (tmp_path / f".{name}.old", tmp_path / f".{name}.partial"):
        folder.mkdir(parents=True)
        (folder / "index.json").write_text(folder.name)
    checkpoint.tidy(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "index.json").read_text() == f".{name}.old"
    (tmp_path / f".{name}.old").mkdir()
    checkpoint.tidy(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_pieces_left_by_a_rank_of_a_killed_run_do_not_count_for_the_next(tmp_path: Path) -> None:
    """With them, the first rank would name a checkpoint that the second is still writing."""
    left = tmp_path / ".step-000000003.partial"
    left.mkdir()
    (left / "rank-00002-of-00002.json").write_text('{"step": 3, "files": {}, "tensors": {}}')
    checkpoint.tidy(tmp_path)
    first, second = (checkpoint.Writer(tmp_path, rank=rank, ranks=2, background=True) for rank in range(2))
    parts = {"random": {"cpu": torch.zeros(4)}}
    first.write(3, parts, {})
    assert not (tmp_path / "step-000000003").exists()
    second.write(3, {"random": {"cpu-1": torch.ones(4)}}, {})
    second.wait()
    first.wait()
    assert checkpoint.Saved(tmp_path / "step-000000003").names("random") == ["cpu", "cpu-1"]


def test_the_first_rank_does_not_wait_for_the_pieces_of_one_that_is_gone(tmp_path: Path) -> None:
    writer = checkpoint.Writer(tmp_path, rank=0, ranks=2)
    writer.write(1, {"model": {}}, {})
    waiting = threading.Timer(0.2, writer.give_up)
    waiting.start()
    with pytest.raises(RunFailed, match="rank 1"):
        writer.wait()
    waiting.join()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_termination_saves_and_exits_75_and_the_run_goes_on_exactly(tmp_path: Path, processes: int) -> None:
    run = Run("causal", settings={"prefetch": 0, "optimiser": "adamw"})
    assert together(run.at(tmp_path / "straight"), processes) == [0] * processes
    cut = run.at(tmp_path / "cut", signals={3: signal.SIGTERM}, only=processes - 1)
    assert together(cut, processes) == [EXIT_INTERRUPTED] * processes
    found = checkpoint.read_last(tmp_path / "cut" / ".checkpoint")
    assert found is not None and found.step == 4
    assert together(run.at(tmp_path / "cut"), processes) == [0] * processes
    assert same(tmp_path / "straight", tmp_path / "cut")


def terminate_at(operation: str, run: Run, rank: int) -> None:
    """SIGTERM in the second file operation of this kind on checkpoints."""
    seen: list[str] = []

    def tell(event: str, arguments: tuple[Any, ...]) -> None:
        if event == operation and ".checkpoint" in str(arguments[0]):
            seen.append(str(arguments[0]))
            if len(seen) == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    sys.addaudithook(tell)


@pytest.mark.parametrize("operation", ["os.mkdir", "os.rename", "os.rmdir"])
@pytest.mark.parametrize("background", [True, False])
def test_a_termination_while_a_checkpoint_is_written_leaves_whole_ones(
    tmp_path: Path, operation: str, background: bool
) -> None:
    run = Run("causal", settings={"background": background})
    assert together(run.at(tmp_path / "cut", before=partial(terminate_at, operation))) == [EXIT_INTERRUPTED]
    left = sorted((tmp_path / "cut" / ".checkpoint").iterdir())
    assert left and all(checkpoint.Saved(path).step for path in left)
    assert together(run.at(tmp_path / "cut")) == [0]
    assert together(run.at(tmp_path / "straight")) == [0]
    assert same(tmp_path / "straight", tmp_path / "cut")


def test_a_dead_process_ends_the_other_with_a_message_and_both_go_on_when_started_again(tmp_path: Path) -> None:
    run = Run("causal", settings={"optimiser": "adamw"})
    assert together(run.at(tmp_path / "straight"), 2) == [0, 0]
    dying = run.at(tmp_path / "cut", signals={5: signal.SIGKILL}, only=1)
    assert together(dying, 2) == [EXIT_INTERRUPTED, -signal.SIGKILL]
    told = (tmp_path / "cut" / "rank-0.txt").read_text()
    assert "Another process of this run is gone" in told and "found: rank 1 is gone; " in told
    assert "Traceback" not in told
    assert together(run.at(tmp_path / "cut"), 2) == [0, 0]
    assert same(tmp_path / "straight", tmp_path / "cut")


@pytest.mark.parametrize("name", ["00000.bin", "00000.idx", "header.json"])
def test_a_flipped_bit_in_a_shard_is_found_and_its_file_named(tmp_path: Path, name: str) -> None:
    given = material(tmp_path)
    file = Path(given["shards"]) / "train" / name
    content = bytearray(file.read_bytes())
    content[0] ^= 64
    file.write_bytes(content)
    with pytest.raises(LuhuoError, match="damaged") as caught:
        PackedLoader(file.parent, batch=2, length=8, seed=0)
    assert caught.value.where == file and caught.value.fix


def test_a_guard_that_doubts_still_doubts_after_a_restart() -> None:
    guard = LossGuard(10, 3)
    verdicts = [guard.judge(float("nan"), 1.0) for _ in range(IN_A_ROW + 1)]
    assert verdicts == ["skip"] * IN_A_ROW + ["back"]
    restarted = LossGuard(10, 3)
    restarted.restore(guard.state())
    assert restarted.doubted and restarted.state() == guard.state()


def test_metrics_survive_a_kill_while_they_are_cut_back(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in range(5):
        log.write(step=step)
    before = log.path.read_bytes()
    child = os.fork()
    if not child:  # the disk allows nothing to be written: as if it were killed right there
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        try:
            log.keep_until(2)
        except OSError:
            os._exit(3)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert log.path.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_forbidden_place_is_a_message(tmp_path: Path) -> None:
    found = from_os_error(PermissionError(13, "Permission denied", str(tmp_path)))
    assert found is not None and found.exit_code == EXIT_FAILED and found.where == str(tmp_path)


class Removed(Stage):
    """Its folder is removed while it runs."""

    def run(self, out: Workspace) -> None:
        shutil.rmtree(out.path)
        out.metrics.write(step=1)


def test_a_folder_removed_under_a_run_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="was removed") as caught:
        produce("removed", Removed(), tmp_path / "base")
    assert caught.value.where == tmp_path / ".base.partial"
