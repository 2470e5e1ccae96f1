"""`luhuo export`: what goes out comes back, bit for bit; what cannot be written leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import luhuo
from luhuo.core.errors import LuhuoError
from luhuo.export import export
from luhuo.model.info import describe
from luhuo.model.load import load
from luhuo.model.save import save
from tests.test_model_decoder import CONFIG, random_ids, random_model


@pytest.fixture
def source(tmp_path: Path) -> Path:
    save(random_model(CONFIG.model_copy(update={"hidden_size": 32})), tmp_path / "source", dtype=torch.bfloat16)
    (tmp_path / "source" / "LICENSE").write_text("mine")
    return tmp_path / "source"


@pytest.mark.parametrize(("dtype", "kept"), [(None, torch.bfloat16), ("fp32", torch.float32), ("fp16", torch.float16)])
def test_a_directory_comes_back_with_every_tensor_as_it_was(source: Path, tmp_path: Path, dtype, kept):
    export(str(source), "hf", dtype, tmp_path / "out")
    before, after = (load_file(folder / "model.safetensors") for folder in (source, tmp_path / "out"))
    assert before.keys() == after.keys() and {t.dtype for t in after.values()} == {kept}
    assert all(torch.equal(before[name].to(kept), after[name]) for name in before)
    assert (tmp_path / "out" / "LICENSE").read_text() == "mine"


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_a_gguf_file_comes_back_as_a_directory_with_equal_logits(source: Path, tmp_path: Path, dtype: str):
    export(str(source), "gguf", dtype, tmp_path / "small.gguf")
    assert describe(tmp_path / "small.gguf").family == "qwen3"
    export(str(tmp_path / "small.gguf"), "hf", "bf16", tmp_path / "again")
    ids = random_ids(2, 20)
    with torch.no_grad():
        before, after = (load(folder, dtype="fp32", device="cpu")(ids) for folder in (source, tmp_path / "again"))
    torch.testing.assert_close(before, after)


def test_the_root_loads_directories_and_gguf_files_and_names_the_forms_otherwise(source: Path, tmp_path: Path):
    export(str(source), "gguf", "f16", tmp_path / "m.gguf")
    for reference in (source, str(source), tmp_path / "m.gguf", f"gguf:{tmp_path}/m.gguf"):
        assert luhuo.load(reference, dtype="fp32", device="cpu").config.hidden_size == 32
    with pytest.raises(LuhuoError) as error:
        luhuo.load("smolm2-135m-instruct")
    assert "smollm2-135m-instruct" in (error.value.fix or "")


@pytest.mark.parametrize(
    ("to", "dtype", "message"),
    [("onnx", None, "Unknown format"), ("hf", "q4_0", "number format"), ("gguf", "q9_k", "number format")],
)
def test_a_format_that_is_not_known_names_those_that_are(source: Path, tmp_path: Path, to, dtype, message):
    with pytest.raises(LuhuoError, match=message) as error:
        export(str(source), to, dtype, tmp_path / "out")
    assert error.value.expected and not (tmp_path / "out").exists()


def test_what_lies_there_is_not_overwritten(source: Path, tmp_path: Path):
    with pytest.raises(LuhuoError, match="already"):
        export(str(source), "hf", None, source)
    (tmp_path / "empty").mkdir()
    export(str(source), "hf", None, tmp_path / "empty")
    assert (tmp_path / "empty" / "config.json").is_file()


def test_a_failed_export_leaves_nothing(source: Path, tmp_path: Path):
    (source / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(LuhuoError, match="damaged"):
        export(str(source), "hf", None, tmp_path / "out")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["source"]
