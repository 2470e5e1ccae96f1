"""Data sets at a hub as streams: each file is fetched when its turn comes, and at the revision that was listed."""

from __future__ import annotations

import io
import itertools

import pytest
import zstandard

from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.corpus.factory.stages import AnnotateStage
from luhuo.files.records import Record
from luhuo.files.remote import is_data_set, list_remote, read_reference
from tests.hub_cases import SCHEMES, offered, set_apart


def parquet(texts: list[str]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), out, compression="none")
    return out.getvalue()


FILES = {f"data/train-{n:05d}.parquet": parquet([f"{n} {i} " + "x" * 2000 for i in range(10)]) for n in range(6)}
ABOUT = {"README.md": b"# card", ".gitattributes": b"x", "load.py": b"raise SystemExit", "dataset_infos.json": b"{}"}


@pytest.fixture
def served(tmp_path, monkeypatch):
    """The stand-in hub with one data set of six Parquet files."""
    set_apart(monkeypatch, tmp_path / "cache")
    with offered(monkeypatch, {"datasets/owner/set": {**ABOUT, **FILES}}) as hub:
        yield hub


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_first_record_comes_after_the_first_file(served, scheme):
    pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    rows = read_reference(f"{scheme}:datasets/owner/set")
    first = next(rows)
    assert isinstance(first, Record)
    assert first.text.startswith("0 0 ")
    assert served.sent == len(FILES["data/train-00000.parquet"])
    list(itertools.islice(rows, 10))
    assert served.sent == 2 * len(FILES["data/train-00000.parquet"])
    assert len(list(rows)) == 60 - 11


@pytest.mark.parametrize("scheme", SCHEMES)
def test_only_data_files_are_listed_with_their_sizes(served, scheme):
    pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    found = list_remote(f"{scheme}:datasets/owner/set")
    assert [file.name for file in found] == sorted(FILES)
    some = list_remote(f"{scheme}:datasets/owner/set/data/train-0000[12].parquet")
    assert [file.name for file in some] == ["data/train-00001.parquet", "data/train-00002.parquet"]
    if scheme == "ms":
        assert [file.size for file in some] == [len(FILES[file.name]) for file in some]
    assert served.sent == 0


def test_a_data_set_that_changes_while_it_is_read_is_read_as_it_was_listed(served):
    pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    commit = served.commit("datasets/owner/set")
    assert all(file.reference.endswith(f"@{commit}") for file in list_remote("hf:datasets/owner/set"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_data_set_without_data_says_what_it_has(served, scheme):
    pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    served.repositories["datasets/owner/set"] = dict(ABOUT)
    with pytest.raises(LuhuoError, match="no file that can be read"):
        list_remote(f"{scheme}:datasets/owner/set")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_factory_makes_the_same_of_a_data_set_and_of_its_files(served, scheme, tmp_path):
    pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    for name, data in FILES.items():
        (tmp_path / "local" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "local" / name).write_bytes(data)

    def records(path: str, name: str) -> list[bytes]:
        stage = AnnotateStage.parse({"sources": [{"name": "set", "path": path}], "signals": [], "workers": 1})
        done = produce("annotate", stage, tmp_path / name)
        assert [source["name"] for source in done.manifest["sources"]] == ["set"]
        files = sorted((done.path / "records").glob("*.zst"))
        return [zstandard.ZstdDecompressor().stream_reader(io.BytesIO(f.read_bytes())).read() for f in files]

    far = records(f"{scheme}:datasets/owner/set", "far")
    assert b"".join(far) == b"".join(records(str(tmp_path / "local"), "near"))
    assert b'"file":"data/train-00000.parquet"' in far[0]


def test_what_is_no_data_set_is_resolved_as_ever(tmp_path):
    (tmp_path / "a.txt").write_text("炉火", encoding="utf-8")
    assert [r.text for r in read_reference(str(tmp_path)) if isinstance(r, Record)] == ["炉火"]
    assert not is_data_set(str(tmp_path))
    assert not is_data_set("hf:owner/model")
