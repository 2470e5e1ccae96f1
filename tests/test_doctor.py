"""The doctor: every check speaks, a broken thing fails with a fix, numbers are really compared."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from luhuo import doctor


def test_this_machine_passes_and_every_check_says_something() -> None:
    found = doctor.checks()
    assert all(check.ok for check in found), [c for c in found if not c.ok]
    assert all(check.name and check.detail for check in found)
    assert len({check.name for check in found}) == len(found) >= 10


def test_a_cache_that_cannot_be_written_fails_with_a_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LUHUO_CACHE", str(tmp_path / "file" / "cache"))
    broken = [check for check in doctor.checks() if not check.ok]
    assert len(broken) == 1 and "LUHUO_CACHE" in broken[0].fix


def test_a_wrong_number_on_a_device_is_noticed() -> None:
    good = doctor._forward_backward(torch.device("cpu"))
    assert doctor.difference(good, doctor._forward_backward(torch.device("cpu"))) == 0
    assert doctor.difference(good, [good[0], good[1] * 1.01, *good[2:]]) > doctor.TOLERANCE
    assert doctor.difference(good, [good[0] * float("nan"), *good[1:]]) == 1.0


def test_settings_of_the_network_are_told_and_secrets_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://name:word@mirror.example")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    told = next(check.detail for check in doctor.checks() if check.name == "network")
    assert "HF_ENDPOINT=https://mirror.example" in told and "HF_TOKEN" in told
    assert "word" not in told and "secret" not in told


def test_findings_are_told_in_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUHUO_LANG", "zh")
    assert {"磁盘", "缓存", "网络"} <= {check.name for check in doctor.checks()}


def test_importing_the_doctor_does_not_import_torch() -> None:
    code = "import sys, luhuo.doctor; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
