"""The examples of docs/corpus-reading.md and docs/corpus-media.md run as they stand."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from luhuo.cli import app

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["corpus-reading.md", "corpus-reading.zh.md"])
def test_the_reading_example_runs(name, tmp_path, capsys):
    raw = tmp_path / "data" / "raw"
    raw.mkdir(parents=True)
    (raw / "a.txt").write_bytes("炉火纯青，说的是学问到了很高的境界。".encode("gb18030"))
    (raw / "b.jsonl").write_text('{"text": "fire"}\nbroken\n')
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.S)
    exec(compile(code, name, "exec"), {})
    said = capsys.readouterr().out
    assert "炉火纯青" in said
    assert "fire" in said
    assert "bad_json" in said


@pytest.mark.parametrize("name", ["corpus-media.md", "corpus-media.zh.md"])
def test_the_media_command_runs(name, tmp_path):
    image = pytest.importorskip("PIL.Image", reason="the extra `data` is not installed")
    (tmp_path / "photos").mkdir()
    image.effect_mandelbrot((64, 64), (-2, -1, 1, 1), 20).save(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "a.txt").write_text("a fractal")
    (command,) = re.findall(r"^    (luhuo .*)$", (DOCS / name).read_text(encoding="utf-8"), re.M)
    done = CliRunner().invoke(app, shlex.split(command)[1:], catch_exceptions=False)
    assert done.exit_code == 0
    row = json.loads((tmp_path / "runs" / "photos" / "manifest.jsonl").read_text())
    assert (row["file"], row["caption"], row["lang"]) == ("a.png", "a fractal", "en")


def test_both_languages_hold_the_same_codes_and_figures():
    for name in ("corpus-reading", "corpus-media"):
        texts = [(DOCS / f"{name}{end}").read_text(encoding="utf-8") for end in (".md", ".zh.md")]
        codes = [set(re.findall(r"`([a-z_]+)`", text)) for text in texts]
        assert codes[0] ^ codes[1] == set(), name
        figures = [sorted(re.findall(r"\d[\d,.]*\d", text)) for text in texts]
        assert len(figures[0]) == pytest.approx(len(figures[1]), abs=6)
