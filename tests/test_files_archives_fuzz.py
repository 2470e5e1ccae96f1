"""Damaged wheels and source archives: unpacked, or refused in words; nothing lands outside, nothing grows."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from pathlib import Path

import pytest

from luhuo.core.errors import LuhuoError
from luhuo.files import archives
from luhuo.files.archives import unpack
from tests.fuzz import mutate

TEXTS = {"pack/a.txt": b"one line of text " * 9, "pack/deep/b.txt": bytes(range(256)), "pack/c.txt": b""}
LIMIT = 200_000


def wheel() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, text in TEXTS.items():
            pack.writestr(name, text)
    return held.getvalue()


def source(mode: str) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode=mode) as pack:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, text in TEXTS.items():
            info = tarfile.TarInfo("top/" + name)
            info.size = len(text)
            pack.addfile(info, io.BytesIO(text))
    return held.getvalue()


KINDS = {"a.whl": (wheel(), 10_000), "a.tar": (source("w"), 3_000), "a.tar.gz": (source("w:gz"), 3_000)}


@pytest.mark.parametrize("name", KINDS)
def test_mutated_archives_are_unpacked_or_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "UNPACKED_BYTES", LIMIT)
    data, count = KINDS[name]
    chance, file, target = random.Random(1), tmp_path / name, tmp_path / "inside" / "target"
    opened = refused = 0
    for number in range(count):
        file.unlink(missing_ok=True)
        file.write_bytes(mutate(data, chance))
        try:
            unpack(file, "pack/**", target)
            opened += 1
        except LuhuoError as error:
            assert name in str(error), f"mutation {number}: the archive is not named"
            refused += 1
        except OSError as error:
            assert error.errno, f"mutation {number}"  # a name the disk refuses
            refused += 1
    assert opened > count / 100 and refused > count / 20
    assert {path.name for path in tmp_path.iterdir()} <= {name, "inside"}
    assert {path.name for path in (tmp_path / "inside").iterdir()} == {"target"}
    assert sum(path.stat().st_size for path in target.rglob("*") if path.is_file()) < count * LIMIT


def test_an_archive_that_lies_about_its_size_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "UNPACKED_BYTES", LIMIT)
    with zipfile.ZipFile(tmp_path / "bomb.whl", "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("pack/zeros", bytes(5_000_000))
    with pytest.raises(LuhuoError, match="too much"):
        unpack(tmp_path / "bomb.whl", "pack", tmp_path / "target")
    assert (tmp_path / "target" / "pack" / "zeros").stat().st_size <= LIMIT + archives.CHUNK
