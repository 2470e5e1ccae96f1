"""The launcher: processes find each other, a signal reaches each once, and 75 is passed on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from luhuo.core.errors import EXIT_BAD_INPUT
from luhuo.launch import launch, main

JOBS = Path(__file__).parents[1] / "jobs"


def python(text: str) -> list[str]:
    return [sys.executable, "-c", "import os, sys, time, signal\nrank = int(os.environ['RANK'])\n" + text]


def test_each_process_is_told_who_it_is(tmp_path: Path) -> None:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    text = f"open(r'{tmp_path}/' + str(rank), 'w').write(' '.join(os.environ[name] for name in {names}))"
    assert launch(python(text), 2, nodes=3, node=1, master="there:29500") == 0
    assert (tmp_path / "2").read_text() == "2 0 6 2 there 29500"
    assert (tmp_path / "3").read_text() == "3 1 6 2 there 29500"


@pytest.mark.parametrize(
    ("codes", "expected"), [((0, 0), 0), ((0, 75), 75), ((75, 75), 75), ((75, 3), 3), ((0, 2), 2)]
)
def test_a_failure_goes_before_an_interruption_and_that_before_success(codes: tuple[int, int], expected: int) -> None:
    assert launch(python(f"sys.exit({codes}[rank])"), 2) == expected


def test_when_one_is_killed_the_others_are_told_to_leave() -> None:
    text = "os.kill(os.getpid(), signal.SIGKILL) if rank else time.sleep(60)"
    start = time.monotonic()
    assert launch(python(text), 2) == 1
    assert time.monotonic() - start < 50


def test_a_signal_reaches_every_process_once_and_75_comes_back(tmp_path: Path) -> None:
    worker = (
        "seen = []\nsignal.signal(signal.SIGTERM, lambda *_: seen.append(1))\n"
        f"open(r'{tmp_path}/' + str(rank), 'w').close()\n"
        "while not seen: time.sleep(0.01)\ntime.sleep(0.3)\nsys.exit(75 if len(seen) == 1 else 9)"
    )
    program = f"import sys; from luhuo.launch import launch; sys.exit(launch({python(worker)!r}, 2))"
    process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    while len(list(tmp_path.iterdir())) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)  # as a terminal or a scheduler does: to all of the group
    assert process.wait(60) == 75


def test_what_cannot_be_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--processes", "0"], ["--nodes", "2"], ["--nodes", "2", "--node", "2", "--master", "a:1"]):
        assert main([*wrong, "--", "doctor"]) == EXIT_BAD_INPUT
    assert "HOST:PORT" in capsys.readouterr().err


def test_the_slurm_script_is_sound_and_queues_again_on_75_only() -> None:
    assert subprocess.run(["bash", "-n", JOBS / "slurm.sh"], check=False).returncode == 0
    text = (JOBS / "slurm.sh").read_text()
    assert "#SBATCH --requeue" in text and "#SBATCH --signal=B:TERM@" in text


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (75, True), (1, False)])
def test_the_slurm_script_passes_on_what_the_run_says(tmp_path: Path, code: int, requeued: bool) -> None:
    tools = {"srun": f"#!/bin/bash\nexit {code}\n", "scontrol": f'#!/bin/bash\necho "$1" >> {tmp_path}/asked\n'}
    for name, text in tools.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    given = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "a"}
    done = subprocess.run(["bash", JOBS / "slurm.sh", "r.yaml"], env={**os.environ, **given}, check=False)
    assert done.returncode == code
    assert ("requeue" in (tmp_path / "asked").read_text()) == requeued


def test_the_kubernetes_job_starts_again_on_75_and_on_eviction() -> None:
    service, job = yaml.safe_load_all((JOBS / "kubernetes.yaml").read_text())
    rules = job["spec"]["podFailurePolicy"]["rules"]
    assert {"action": "Ignore", "onExitCodes": {"containerName": "luhuo", "operator": "In", "values": [75]}} in rules
    assert any(rule.get("onPodConditions") == [{"type": "DisruptionTarget"}] for rule in rules)
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # a failure policy asks for it
    assert job["spec"]["completionMode"] == "Indexed" and job["spec"]["completions"] == job["spec"]["parallelism"]
    assert pod["subdomain"] == service["metadata"]["name"]


def test_the_kubeflow_job_turns_75_into_a_code_that_is_tried_again() -> None:
    job = yaml.safe_load((JOBS / "kubeflow.yaml").read_text())
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert {each["restartPolicy"] for each in replicas.values()} == {"ExitCode"}
    script = replicas["Master"]["template"]["spec"]["containers"][0]["args"][0]
    run = script.replace("python -m luhuo.launch", "exit_with").replace("/storage/recipe.yaml", "r")
    for code, expected in ((0, 0), (75, 143), (1, 1)):
        text = f"exit_with() {{ return {code}; }}\n{run}"
        assert subprocess.run(["bash", "-c", text], check=False).returncode == expected


def test_a_stage_runs_in_ray_train_workers(tmp_path: Path) -> None:
    pytest.importorskip("ray.train.torch", reason="Ray is a large optional package: pip install 'ray[train]'")
    (tmp_path / "world.yaml").write_text("items: 20\n")
    command = [sys.executable, str(JOBS / "ray_train.py"), "--workers", "1", "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, "world", str(tmp_path / "world.yaml")], check=False, timeout=300)
    assert done.returncode == 0 and (tmp_path / "out" / "manifest.json").is_file()
