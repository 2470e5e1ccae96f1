"""The page on layouts: its commands run as they stand there, in both languages."""

from __future__ import annotations

from pathlib import Path

import torch
from typer.testing import CliRunner

from luhuo.cli import app
from luhuo.export import FORMATS
from luhuo.files.gguf import GGUF
from luhuo.model.gguf_kinds import MIXES
from luhuo.model.grid import Grid
from luhuo.model.load import load_decoder
from luhuo.model.matrices import Kept
from luhuo.model.save import save
from tests.format_cases import kept_by, rounded, small, write
from tests.small_chat import TEXTS, small_tokenizer

PAGES = [Path(__file__).parents[1] / "docs" / f"compression-formats{ending}" for ending in (".md", ".zh.md")]


def commands(page: Path) -> list[str]:
    block = page.read_text(encoding="utf-8").split("```bash\n")[1].split("```")[0]
    return block.strip().splitlines()


def test_every_command_runs_and_what_it_writes_opens(tmp_path: Path) -> None:
    assert commands(PAGES[0]) == commands(PAGES[1])
    model = small(hidden_size=256, intermediate_size=256, heads=4, head_dim=64, vocab_size=310)
    model.tokenizer = small_tokenizer()
    save(model, tmp_path / "MODEL", dtype=torch.bfloat16)
    for name, grid in (("QUANTISED", Grid(4, 32)), ("EIGHT", Grid(8, None))):
        write(model, kept_by(model, lambda _, w, grid=grid: Kept(rounded(w, grid))), tmp_path / name)
        small_tokenizer().save(tmp_path / name)
    (tmp_path / "text.txt").write_text("\n".join(TEXTS * 60), encoding="utf-8")
    for number, command in enumerate(commands(PAGES[0])):
        words = command.split()
        assert words.pop(0) == "luhuo"
        out = tmp_path / f"{number}{'.gguf' if words[-1].endswith('.gguf') else ''}"
        places = {"QUANTISED": tmp_path / ("EIGHT" if "bitsandbytes" in words else "QUANTISED"), words[-1]: out}
        places |= {"MODEL": tmp_path / "MODEL", "TEXT": tmp_path / "text.txt", "GPTQ_OR_AWQ": tmp_path / "0"}
        result = CliRunner().invoke(app, [str(places.get(word, word)) for word in words], catch_exceptions=False)
        assert result.exit_code == 0, f"{command}: {result.output}"
        found = load_decoder(out, dtype="fp32", device="cpu").tokenizer
        assert [found.encode(text) for text in TEXTS] == [small_tokenizer().encode(text) for text in TEXTS]
    kinds = {info.kind.name for info in GGUF(tmp_path / "4.gguf").tensors.values()}
    assert {"Q4_K", "Q6_K", "F32"} == kinds


def test_every_format_is_named_on_the_pages_and_in_the_help() -> None:
    told = CliRunner().invoke(app, ["export", "--help"], env={"COLUMNS": "400"}).output
    assert set(FORMATS["gguf"]) == set(MIXES)
    for name in (*FORMATS, *FORMATS["gguf"]):
        assert name in told
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert all(f"`{name}`" in text for name in FORMATS["gguf"])
