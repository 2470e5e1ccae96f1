"""Model hubs over real HTTP: what is fetched, and what is said when it cannot be."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from luhuo.core.errors import LuhuoError
from luhuo.files import aliases, hub, modelscope, pypi
from luhuo.files.references import expand, resolve
from tests.hub_cases import MODEL, SCHEMES, WEIGHTS, offered, set_apart, tree
from tests.hub_server import sha256

FETCHED = ["README.md", "chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json"]


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    set_apart(monkeypatch, tmp_path / "cache")


@pytest.fixture
def served(monkeypatch):
    """The stand-in hub with one model."""
    with offered(monkeypatch, {"models/owner/demo": dict(MODEL)}) as hub:
        yield hub


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
