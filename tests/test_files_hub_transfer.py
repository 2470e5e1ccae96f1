"""Transfers from a hub over real HTTP: what is continued, what is checked, and what a failure leaves behind."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from luhuo.core.errors import LuhuoError
from luhuo.files.download import Wanted, download
from luhuo.files.references import resolve
from tests.hub_cases import MODEL, SCHEMES, WEIGHTS, offered, set_apart
from tests.hub_server import sha256


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    set_apart(monkeypatch, tmp_path / "cache")


@pytest.fixture
def served(monkeypatch):
    """The stand-in hub with one model."""
    with offered(monkeypatch, {"models/owner/demo": dict(MODEL)}) as hub:
        yield hub


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_connection_that_breaks_is_continued_where_it_broke(served, scheme, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)  # what its client keeps of a break
    served.drop_after = [100_000, 50_000]
    folder = resolve(f"{scheme}:owner/demo").path
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert [h.get("Range") for h in served.asked(sha256(WEIGHTS))] == [None, "bytes=100000-", "bytes=150000-"]
    assert served.sent == len(WEIGHTS)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_that_ignores_ranges_costs_a_second_transfer_and_no_damage(served, scheme):
    served.drop_after, served.ranges = [100_000], False
    assert (resolve(f"{scheme}:owner/demo").path / "model.safetensors").read_bytes() == WEIGHTS
    assert served.sent == 100_000 + len(WEIGHTS)


def test_a_download_that_was_killed_is_continued_by_the_next_process(served, tmp_path):
    code = "from luhuo.files.references import resolve; resolve('ms:owner/demo')"
    served.drop_after = [120_000]
    kill = (
        "import os, luhuo.files.download as d\n"
        "inner = d._append\n"
        "def die(*a):\n    inner(*a); os.kill(os.getpid(), 9)\n"
        f"d._append = die\n{code}"
    )
    assert subprocess.run([sys.executable, "-c", kill], check=False).returncode == -9
    blobs = tmp_path / "cache" / "modelscope" / "models" / "owner" / "demo" / "blobs"
    assert not (blobs / sha256(WEIGHTS)).exists()
    assert (resolve("ms:owner/demo").path / "model.safetensors").read_bytes() == WEIGHTS
    assert [h.get("Range") for h in served.asked(sha256(WEIGHTS))] == [None, "bytes=120000-"]
    assert served.sent == len(WEIGHTS)


def test_a_file_that_changed_while_it_was_fetched_is_fetched_anew(tmp_path, served):
    target, old = tmp_path / "file", os.urandom(100_000)
    new = served.repositories["models/owner/demo"]["model.safetensors"]
    served.repositories["models/owner/old"] = {"old.safetensors": old}
    (tmp_path / ".file.part").write_bytes(old[:60_000])
    (tmp_path / ".file.part.json").write_text(f'{{"validator": "\\"{sha256(old)}\\""}}')
    download(Wanted(f"{served.url}/lfs/{sha256(new)}", target))
    assert target.read_bytes() == new


@pytest.mark.parametrize("known", [True, False])
def test_without_a_validator_a_part_is_continued_only_if_a_digest_will_tell(tmp_path, served, known):
    served.validators, served.drop_after = False, [100_000]
    digest = sha256(WEIGHTS)
    download(Wanted(f"{served.url}/lfs/{digest}", tmp_path / "file", digest if known else None))
    assert (tmp_path / "file").read_bytes() == WEIGHTS
    assert [h.get("Range") for h in served.asked(digest)] == [None, "bytes=100000-" if known else None]


def test_an_old_part_of_another_file_is_noticed_by_the_digest(tmp_path, served):
    (tmp_path / ".file.part").write_bytes(b"x" * 1_000)
    digest = sha256(WEIGHTS)
    download(Wanted(f"{served.url}/lfs/{digest}", tmp_path / "file", digest))
    assert (tmp_path / "file").read_bytes() == WEIGHTS
    assert not (tmp_path / ".file.part").exists()


def test_a_part_that_is_whole_already_is_not_sent_again(tmp_path, served):
    (tmp_path / ".file.part").write_bytes(WEIGHTS)
    digest = sha256(WEIGHTS)
    download(Wanted(f"{served.url}/lfs/{digest}", tmp_path / "file", digest))
    assert (tmp_path / "file").read_bytes() == WEIGHTS and served.sent == 0


def test_a_server_that_neither_continues_nor_finishes_is_given_up(tmp_path, served):
    served.ranges, served.drop_after = False, [9_000, 8_000, 9_000, 7_000, 9_000, 9_000, 9_000, 9_000]
    with pytest.raises(LuhuoError, match="failed"):
        download(Wanted(f"{served.url}/lfs/{sha256(WEIGHTS)}", tmp_path / "file", sha256(WEIGHTS)))
    assert not (tmp_path / "file").exists() and len(served.drop_after) >= 3


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_file_with_a_flipped_bit_is_refused_and_nothing_of_it_is_kept(served, scheme, tmp_path):
    served.corrupt = True
    with pytest.raises(LuhuoError, match=r"asked for|digest"):
        resolve(f"{scheme}:owner/demo")
    assert not [f for f in (tmp_path / "cache").rglob("*") if f.is_file() and f.stat().st_size == len(WEIGHTS)]
    served.corrupt = False
    assert (resolve(f"{scheme}:owner/demo").path / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_file_damaged_in_the_cache_is_fetched_again(served, scheme):
    file = resolve(f"{scheme}:owner/demo").path / "model.safetensors"
    with file.resolve().open("r+b") as handle:
        handle.write(b"damaged")
    assert (resolve(f"{scheme}:owner/demo").path / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_that_never_delivers_ends_in_one_message_and_no_file(served, scheme, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    served.drop_after = [0] * 50
    with pytest.raises(LuhuoError) as error:
        resolve(f"{scheme}:owner/demo")
    assert "Traceback" not in str(error.value) and error.value.fix
    assert not any(f.name == "model.safetensors" for f in (tmp_path / "cache").rglob("*"))


def test_a_storage_that_fails_once_is_asked_again(served):
    served.file_status = 503
    assert (resolve("ms:owner/demo").path / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("scheme", SCHEMES)
def test_two_processes_at_once_both_succeed(served, scheme):
    code = f"from luhuo.files.references import resolve; print(resolve('{scheme}:owner/demo').path)"
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = {run.communicate()[0].strip() for run in runs}
    assert [run.returncode for run in runs] == [0, 0] and len(paths) == 1
    assert (Path(paths.pop()) / "model.safetensors").read_bytes() == WEIGHTS
    assert served.sent == len(WEIGHTS)


def test_a_disk_without_room_stops_before_a_byte_is_written(served, monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000))
    with pytest.raises(OSError) as error:
        resolve("ms:owner/demo")
    assert error.value.errno == errno.ENOSPC
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_a_disk_that_fills_up_leaves_nothing_under_the_final_name(served, monkeypatch, tmp_path):
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))\n"
        "from luhuo.core.errors import from_os_error\n"
        "from luhuo.files.references import resolve\n"
        "try:\n    resolve('ms:owner/demo')\n"
        "except OSError as error:\n    print(from_os_error(error))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "disk is full" in run.stdout
    blobs = tmp_path / "cache" / "modelscope" / "models" / "owner" / "demo" / "blobs"
    assert sha256(WEIGHTS) not in [f.name for f in blobs.iterdir()]
    assert (resolve("ms:owner/demo").path / "model.safetensors").read_bytes() == WEIGHTS
