"""Model hubs over real HTTP: what is fetched, what is continued, what is checked, and what is said when it fails."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from luhuo.core.errors import LuhuoError
from luhuo.files import aliases, hub, modelscope, pypi, transport
from luhuo.files.download import Wanted, download
from luhuo.files.references import expand, resolve
from tests.hub_server import Hub, serve, sha256

WEIGHTS = os.urandom(300_000)
MODEL = {
    "config.json": b'{"model_type": "demo"}',
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"pickle" * 5_000,
    "tokenizer.json": b'{"version": "1.0"}',
    "chat_template.jinja": b"{{ messages }}",
    "README.md": b"---\nlicense: apache-2.0\n---\n",
    "model.Q4_0.gguf": b"GGUF" * 5_000,
    "onnx/model.onnx": b"onnx" * 5_000,
    "onnx/config.json": b"{}",
    "modeling_demo.py": b"raise SystemExit",
    "training/optimizer.pt": b"pickle" * 5_000,
}
FETCHED = ["README.md", "chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json"]
SCHEMES = ["hf", "ms"]


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """An own cache, no settings and no tokens of the person who runs the tests, and no waiting between tries."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "MODELSCOPE_DOMAIN", "MODELSCOPE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("LUHUO_OFFLINE", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setenv("LUHUO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(transport, "PAUSE_S", 0.0)


@pytest.fixture
def served(monkeypatch):
    """The stand-in hub, with one model and one data set, named by the usual environment variables."""
    with serve(Hub({"models/owner/demo": dict(MODEL)})) as offer:
        monkeypatch.setenv("HF_ENDPOINT", offer.url)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", offer.url)
        yield offer


def tree(folder: Path) -> list[str]:
    return sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file())


def test_a_reference_names_hub_repository_path_revision_and_kind():
    assert hub.parse("hf", "owner/name") == hub.HubReference("hf", "owner/name")
    assert hub.parse("ms", "owner/name@v2") == hub.HubReference("ms", "owner/name", revision="v2")
    assert hub.parse("hf", "owner/name/a/b.txt@refs/pr/1") == hub.HubReference(
        "hf", "owner/name", "a/b.txt", "refs/pr/1"
    )
    found = hub.parse("hf", "datasets/owner/name/b.jsonl")
    assert (found.dataset, found.inner, str(found)) == (True, "b.jsonl", "hf:datasets/owner/name/b.jsonl")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_model_comes_without_pickles_code_and_duplicates(served, scheme):
    folder = resolve(f"{scheme}:owner/demo").path
    assert tree(folder) == FETCHED
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert not served.asked("pytorch_model.bin") and not served.asked(sha256(MODEL["pytorch_model.bin"]))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_weights_only_the_small_files_come(served, scheme):
    folder = resolve(f"{scheme}:owner/demo", weights=False).path
    assert tree(folder) == [name for name in FETCHED if name != "model.safetensors"]
    assert resolve(f"{scheme}:owner/demo").path == folder and tree(folder) == FETCHED


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_file_comes_alone(served, scheme):
    path = resolve(f"gguf:{scheme}:owner/demo/model.Q4_0.gguf").path
    assert path.read_bytes() == MODEL["model.Q4_0.gguf"]
    assert resolve(f"{scheme}:owner/demo/onnx/config.json").path.read_bytes() == b"{}"
    assert not served.asked(sha256(WEIGHTS))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_glob_in_a_data_set_names_its_files(served, scheme):
    lines = b'{"text": "x"}\n' * 2_000
    served.repositories["datasets/owner/texts"] = {"data/a.jsonl": lines, "data/b.jsonl": b"{}", "c.csv": b"1"}
    found = resolve(f"{scheme}:datasets/owner/texts/data/*.jsonl").path
    assert [f.name for f in sorted(found.parent.glob(found.name))] == ["a.jsonl", "b.jsonl"]
    assert not served.asked("c.csv")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_in_the_cache_is_not_sent_again(served, scheme):
    first = resolve(f"{scheme}:owner/demo").path
    sent = served.sent
    assert resolve(f"{scheme}:owner/demo").path == first
    assert served.sent == sent == len(WEIGHTS)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_new_state_of_the_repository_is_fetched_and_the_old_one_stays(served, scheme):
    old = resolve(f"{scheme}:owner/demo").path
    served.repositories["models/owner/demo"]["config.json"] = b'{"model_type": "new"}'
    new = resolve(f"{scheme}:owner/demo").path
    assert b"new" in (new / "config.json").read_bytes() and b"demo" in (old / "config.json").read_bytes()
    assert served.sent == len(WEIGHTS)


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
@pytest.mark.parametrize("status", [401, 403, 404, 503])
def test_each_refusal_is_one_clear_message(served, scheme, status):
    served.status = status
    with pytest.raises(LuhuoError) as error:
        resolve(f"{scheme}:owner/demo")
    token = {"hf": "HF_TOKEN", "ms": "MODELSCOPE_API_TOKEN"}[scheme]
    said = {401: token, 403: token, 404: "owner", 503: "smollm2-135m-instruct"}[status]
    assert said in (error.value.fix or "") and str(error.value.where) == f"{scheme}:owner/demo"
    assert f"{scheme}:owner/demo" in str(error.value)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_revision_that_does_not_exist_is_said(served, scheme):
    with pytest.raises(LuhuoError, match="revision"):
        resolve(f"{scheme}:owner/demo@v9")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_file_that_does_not_exist_names_the_nearest(served, scheme):
    with pytest.raises(LuhuoError, match="no such file") as error:
        resolve(f"{scheme}:owner/demo/confg.json")
    assert "config.json" in (error.value.fix or "")


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("form", ["", "gguf:"])
def test_a_hub_that_is_not_there_names_the_offline_choices(scheme, form, monkeypatch):
    for name in ("HF_ENDPOINT", "MODELSCOPE_ENDPOINT"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(hub.Unreachable) as error:
        resolve(f"{form}{scheme}:owner/demo")
    for choice in ("smollm2-135m-instruct", "folder", "HF_ENDPOINT", "MODELSCOPE_ENDPOINT", "HTTPS_PROXY"):
        assert choice in (error.value.fix or "")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_offline_takes_what_is_in_the_cache_and_opens_no_connection(served, scheme, monkeypatch):
    first = resolve(f"{scheme}:owner/demo").path
    monkeypatch.setenv("LUHUO_OFFLINE", "1")
    served.requests.clear()
    assert resolve(f"{scheme}:owner/demo").path == first
    with pytest.raises(LuhuoError, match="switched off"):
        resolve(f"{scheme}:owner/other")
    assert not served.requests


def test_the_offline_switch_of_the_hub_s_own_client_is_named(served, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LuhuoError, match="switched off") as error:
        resolve("hf:owner/demo")
    assert error.value.found == "HF_HUB_OFFLINE" and not served.requests


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_token_is_sent_to_the_hub_and_never_to_its_storage(served, scheme, monkeypatch):
    served.token = "secret"
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "secret")
    assert (resolve(f"{scheme}:owner/demo").path / "model.safetensors").read_bytes() == WEIGHTS
    stored = served.asked("/lfs/")
    assert stored and not any("secret" in str(headers) for headers in stored)


def test_a_proxy_is_used_where_one_is_named(served, monkeypatch):
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://hub.invalid")
    monkeypatch.setenv("http_proxy", served.url)
    with pytest.raises(LuhuoError):  # the stand-in answers a proxy's absolute address with "no such repository"
        resolve("ms:owner/none")
    assert served.requests[0][1].startswith("http://hub.invalid/api/v1/models/owner/none/repo/files")


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


def test_a_list_that_the_hub_cuts_off_is_asked_for_folder_by_folder(served, monkeypatch):
    files = {f"part{i}/{j}.json": f"{i}{j}".encode() for i in range(4) for j in range(5)}
    served.repositories["models/owner/many"] = files | {"model.safetensors": WEIGHTS}
    served.listed = 8
    monkeypatch.setattr(modelscope, "LISTED", 8)
    assert tree(resolve("ms:owner/many").path) == sorted([*files, "model.safetensors"])


def test_a_data_set_of_many_files_is_listed_page_by_page(served, monkeypatch):
    files = {f"data/{i:03}.txt": str(i).encode() for i in range(25)}
    served.repositories["datasets/owner/many"] = files
    monkeypatch.setattr(modelscope, "PAGE", 10)
    assert len(tree(resolve("ms:datasets/owner/many").path)) == 25


def test_a_path_from_the_hub_that_leads_outside_is_refused(served, tmp_path):
    served.repositories["models/owner/evil"] = {"../../outside.json": b"{}"}
    with pytest.raises(LuhuoError, match="outside"):
        resolve("ms:owner/evil")
    assert not list(tmp_path.rglob("outside.json"))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_repository_with_only_other_weights_says_which_and_fetches_none(served, scheme):
    served.repositories["models/owner/pickled"] = {"config.json": b"{}", "pytorch_model.bin": b"pickle" * 5_000}
    served.repositories["models/owner/packed"] = {"a.Q4_0.gguf": b"GGUF" * 5_000, "b.Q8_0.gguf": b"GGUF" * 5_001}
    served.repositories["models/owner/words"] = {"tokenizer.json": b"{}"}
    with pytest.raises(LuhuoError, match="pickled") as error:
        resolve(f"{scheme}:owner/pickled")
    assert "pytorch_model.bin" in str(error.value)
    with pytest.raises(LuhuoError) as error:
        resolve(f"{scheme}:owner/packed")
    assert error.value.fix == f"gguf:{scheme}:owner/packed/a.Q4_0.gguf"
    assert tree(resolve(f"{scheme}:owner/words").path) == ["tokenizer.json"]
    assert served.sent == 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_one_gguf_file_of_a_repository_need_not_be_named(served, scheme, monkeypatch):
    path = resolve(f"gguf:{scheme}:owner/demo").path
    assert path.read_bytes() == MODEL["model.Q4_0.gguf"] and not served.asked(sha256(WEIGHTS))
    with monkeypatch.context() as patch:
        patch.setenv("LUHUO_OFFLINE", "1")
        served.requests.clear()
        assert resolve(f"gguf:{scheme}:owner/demo").path == path and not served.requests
    served.repositories["models/owner/demo"]["b.gguf"] = b"GGUF" * 10
    with pytest.raises(LuhuoError, match="name the one") as error:
        resolve(f"gguf:{scheme}:owner/demo")
    assert error.value.fix == f"gguf:{scheme}:owner/demo/b.gguf"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_parts_of_a_split_gguf_file_come_together(served, scheme):
    parts = {f"m-0000{i}-of-00002.gguf": b"GGUF" + bytes([i]) for i in (1, 2)}
    served.repositories["models/owner/split"] = parts | {"other.gguf": b"GGUF"}
    path = resolve(f"gguf:{scheme}:owner/split/m-00001-of-00002.gguf").path
    assert tree(path.parent) == list(parts) and path.name == "m-00001-of-00002.gguf"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_pickle_in_a_named_folder_comes_only_under_its_own_name(served, scheme):
    files = {"sub/model.safetensors": WEIGHTS, "sub/pytorch_model.bin": b"pickle" * 5_000, "sub/empty.txt": b""}
    served.repositories["models/owner/nested"] = files
    assert tree(resolve(f"{scheme}:owner/nested/sub").path) == ["empty.txt", "model.safetensors"]
    assert resolve(f"{scheme}:owner/nested/sub/pytorch_model.bin").path.read_bytes()[:6] == b"pickle"


def test_gguf_names_one_file_in_a_folder_a_glob_or_a_path(tmp_path):
    for name in ("a.gguf", "sub/b.gguf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"GGUF")
    assert resolve(f"gguf:{tmp_path}/a.gguf").path == tmp_path / "a.gguf"
    assert resolve(f"gguf:{tmp_path}/sub").path == tmp_path / "sub" / "b.gguf"
    assert resolve(f"gguf:{tmp_path}/a*.gguf").path == tmp_path / "a.gguf"
    with pytest.raises(LuhuoError, match="one GGUF file") as error:
        resolve(f"gguf:{tmp_path}")
    assert "a.gguf" in str(error.value) and "b.gguf" in str(error.value)


def test_a_short_name_stands_for_a_pinned_reference_and_a_path_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert expand("SmolLM2-135M-Instruct") == aliases.CARRIED["smollm2-135m-instruct"].reference
    (tmp_path / "gpt2").mkdir()
    assert expand("gpt2") == "gpt2" and resolve("gpt2").path == Path("gpt2")
    assert expand("nothing/of/the/kind") == "nothing/of/the/kind"


def test_every_short_name_can_be_parsed_and_those_without_a_hub_are_pinned():
    for name, alias in aliases.ALIASES.items():
        assert name == name.lower() and alias.licence
        for reference in filter(None, (alias.reference, alias.mirror)):
            scheme, _, rest = reference.removeprefix("gguf:").partition(":")
            assert scheme == "pypi" or hub.parse(scheme, rest)
        if not alias.needs_hub:
            assert len(pypi.parse(alias.reference.removeprefix("gguf:")).sha256) == 64


def test_the_mirror_of_a_short_name_is_taken_where_only_that_hub_answers(served, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused_port()}")
    served.repositories["models/Qwen/Qwen3-0.6B"] = {"config.json": b"{}", "model.safetensors": WEIGHTS}
    found = resolve("qwen3-0.6b")
    assert (found.reference, found.licence) == ("ms:Qwen/Qwen3-0.6B", "Apache-2.0")
    assert "ms:Qwen/Qwen3-0.6B" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("smolm2-135m-instruct", "smollm2-135m-instruct"),
        ("Qwen/Qwen3-0.6B", "hf:Qwen/Qwen3-0.6B"),
        ("https://hub.example/Qwen/Qwen3-0.6B", "hf:Qwen/Qwen3-0.6B"),
        ("./nowhere", "luhuo pull"),
    ],
)
def test_an_unknown_name_gives_the_nearest_one_and_the_forms(name, hint):
    with pytest.raises(LuhuoError) as error:
        resolve(name)
    assert hint in (error.value.fix or "") and "gguf:PATH_OR_REFERENCE" in str(error.value.expected)
