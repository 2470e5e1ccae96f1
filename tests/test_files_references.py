"""References: pinned packages from an index served here, the verified cache, safe unpacking, hubs."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from luhuo.core.errors import LuhuoError
from luhuo.files import archives, index
from luhuo.files.references import resolve

TEXTS = {"demo/data/one.txt": "炉火", "demo/data/deep/two.txt": "fire", "demo/code.py": "raise SystemExit(99)"}


def wheel(path: Path, members: dict[str, str] = TEXTS) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, text in members.items():
            pack.writestr(name, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sdist(path: Path, members: dict[str, str] = TEXTS, link: str = "") -> str:
    with tarfile.open(path, "w:gz") as pack:
        for name, text in members.items():
            info = tarfile.TarInfo(f"demo-1.0/{name}")
            info.size = len(text.encode())
            pack.addfile(info, io.BytesIO(text.encode()))
        if link:
            info = tarfile.TarInfo(f"demo-1.0/{link}")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            pack.addfile(info)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """An own cache and no settings of the machine's pip."""
    monkeypatch.setenv("LUHUO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "_configured", dict)
    for name in index.KEYS:
        monkeypatch.delenv("PIP_" + name.upper().replace("-", "_"), raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "empty").as_uri())


@pytest.fixture
def served(tmp_path):
    """A folder and its address; `types` gives file names another content type."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            pass

        def guess_type(self, path):
            json_page = str(path).endswith("page.json")
            return "application/vnd.pypi.simple.v1+json" if json_page else super().guess_type(path)

        def translate_path(self, path):
            found = Path(super().translate_path(path))
            return str(found / "page.json" if (found / "page.json").exists() else found)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def html_index(folder: Path, digests: bool = True) -> str:
    (folder / "simple" / "demo-pkg").mkdir(parents=True)
    (folder / "files").mkdir()
    sha = wheel(folder / "files" / "demo_pkg-1.0-py3-none-any.whl")
    fragment = f"#sha256={sha}" if digests else ""
    (folder / "simple" / "demo-pkg" / "index.html").write_text(
        f'<a href="../../files/demo_pkg-1.0-py3-none-any.whl{fragment}">demo_pkg-1.0-py3-none-any.whl</a>'
    )
    return sha


@pytest.mark.parametrize("digests", [True, False])
def test_a_pinned_file_comes_from_an_html_index(served, monkeypatch, digests):
    folder, address = served
    sha = html_index(folder, digests)
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple")
    found = resolve(f"pypi:demo.PKG==1.0/demo/data/one.txt#sha256={sha}")
    assert (found.path.read_text(encoding="utf-8"), found.sha256) == ("炉火", sha)


def test_a_pinned_file_comes_from_a_json_index(served, monkeypatch):
    folder, address = served
    sha = html_index(folder)
    name = "demo_pkg-1.0-py3-none-any.whl"
    page = {"files": [{"filename": name, "hashes": {"sha256": sha}, "url": f"../../files/{name}"}]}
    (folder / "simple" / "demo-pkg" / "page.json").write_text(json.dumps(page))
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple/")
    assert resolve(f"pypi:demo-pkg==1.0/demo#sha256={sha}").path.is_dir()


def test_file_indexes_extra_indexes_and_find_links_are_searched(tmp_path, monkeypatch):
    (tmp_path / "local").mkdir()
    sha = html_index(tmp_path / "local")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", (tmp_path / "local" / "simple").as_uri())
    assert resolve(f"pypi:demo-pkg==1.0/demo/data/one.txt#sha256={sha}").path.is_file()
    monkeypatch.setenv("LUHUO_CACHE", str(tmp_path / "other"))
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "local" / "files"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert resolve(f"pypi:demo-pkg==1.0/demo/data/one.txt#sha256={sha}").path.is_file()


def links(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "links"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


def test_what_is_in_the_cache_opens_no_socket(tmp_path, monkeypatch):
    folder = links(tmp_path, monkeypatch)
    sha = wheel(folder / "demo-1.0-py3-none-any.whl")
    reference = f"pypi:demo==1.0/demo/data/*.txt#sha256={sha}"
    first = resolve(reference).path
    (folder / "demo-1.0-py3-none-any.whl").unlink()

    def refuse(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(index, "settings", refuse)
    assert resolve(reference).path == first
    assert resolve(f"pypi:demo==1.0/demo/code.py#sha256={sha}").path.read_text() == "raise SystemExit(99)"


def test_a_damaged_cache_is_noticed_and_made_good(tmp_path, monkeypatch):
    folder = links(tmp_path, monkeypatch)
    sha = wheel(folder / "demo-1.0-py3-none-any.whl")
    reference = f"pypi:demo==1.0/demo/data/one.txt#sha256={sha}"
    file = resolve(reference).path
    file.write_text("other")
    assert resolve(reference).path.read_text(encoding="utf-8") == "炉火"
    (archive,) = (tmp_path / "cache" / "archives" / sha).glob("[!.]*")
    archive.write_bytes(b"damaged")
    assert resolve(reference).path.read_text(encoding="utf-8") == "炉火"
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == sha


def test_an_unpinned_reference_is_refused_with_the_digest_to_write(tmp_path, monkeypatch):
    (tmp_path / "local").mkdir()
    sha = html_index(tmp_path / "local")
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "local" / "simple").as_uri())
    with pytest.raises(LuhuoError) as error:
        resolve("pypi:demo-pkg==1.0/demo")
    assert f"pypi:demo-pkg==1.0/demo#sha256={sha}" in str(error.value)
    assert not (tmp_path / "cache").exists()


def test_another_digest_is_refused_and_nothing_is_kept(tmp_path, monkeypatch):
    folder = links(tmp_path, monkeypatch)
    wheel(folder / "demo-1.0-py3-none-any.whl")
    with pytest.raises(LuhuoError) as error:
        resolve("pypi:demo==1.0/demo#sha256=" + "0" * 64)
    assert "demo-1.0-py3-none-any.whl" in str(error.value)
    assert not [f for f in (tmp_path / "cache").rglob("*") if f.is_file() and f.suffix != ".lock"]


@pytest.mark.parametrize(
    "reference", ["pypi:demo", "pypi:demo==1/x#sha256=12", "pypi:==1", "hf:onlyname", "hf:a/../b"]
)
def test_a_reference_that_cannot_be_read_is_one_clear_error(reference):
    with pytest.raises(LuhuoError):
        resolve(reference)


def test_paths_are_references_and_missing_ones_are_errors(tmp_path):
    assert resolve(str(tmp_path)).path == tmp_path
    with pytest.raises(LuhuoError):
        resolve(str(tmp_path / "none"))


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("demo/data/one.txt", ["demo/data/one.txt"]),
        ("demo/data", ["demo/data/deep/two.txt", "demo/data/one.txt"]),
        ("demo/data/*.txt", ["demo/data/one.txt"]),
        ("demo/**/*.txt", ["demo/data/deep/two.txt", "demo/data/one.txt"]),
        ("", ["demo/code.py", "demo/data/deep/two.txt", "demo/data/one.txt"]),
    ],
)
def test_only_what_is_asked_for_is_unpacked(tmp_path, kind, inner, expected):
    archive = tmp_path / ("demo-1.0-py3-none-any.whl" if kind == "wheel" else "demo-1.0.tar.gz")
    (wheel if kind == "wheel" else sdist)(archive)
    archives.unpack(archive, inner, tmp_path / "out")
    found = sorted(f.relative_to(tmp_path / "out").as_posix() for f in (tmp_path / "out").rglob("*") if f.is_file())
    assert found == expected


@pytest.mark.parametrize("name", ["../outside.txt", "/absolute.txt", "a/../../outside.txt", "a\\..\\b.txt"])
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_paths_that_lead_outside_are_refused(tmp_path, kind, name):
    archive = tmp_path / ("demo-1.0-py3-none-any.whl" if kind == "wheel" else "demo-1.0.tar.gz")
    (wheel if kind == "wheel" else sdist)(archive, {name: "x"})
    with pytest.raises(LuhuoError):
        archives.unpack(archive, "", tmp_path / "out" / "deep")
    assert not (tmp_path / "outside.txt").exists()
    assert not (tmp_path / "out" / "outside.txt").exists()


def test_links_are_refused(tmp_path):
    sdist(tmp_path / "demo-1.0.tar.gz", link="passwd")
    with pytest.raises(LuhuoError):
        archives.unpack(tmp_path / "demo-1.0.tar.gz", "passwd", tmp_path / "out")


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "UNPACKED_BYTES", 10_000)
    wheel(tmp_path / "demo-1.0-py3-none-any.whl", {"bomb.txt": "0" * 3_000_000})
    with pytest.raises(LuhuoError):
        archives.unpack(tmp_path / "demo-1.0-py3-none-any.whl", "", tmp_path / "out")


def test_a_name_that_is_not_in_the_archive_is_an_error_that_lists_some(tmp_path):
    wheel(tmp_path / "demo-1.0-py3-none-any.whl")
    with pytest.raises(LuhuoError, match="no such file") as error:
        archives.unpack(tmp_path / "demo-1.0-py3-none-any.whl", "nothing.txt", tmp_path / "out")
    assert "demo/data/one.txt" in str(error.value)


def test_a_damaged_archive_is_one_clear_error(tmp_path):
    for name in ("demo-1.0.tar.gz", "demo-1.0-py3-none-any.whl"):
        (tmp_path / name).write_bytes(b"no archive")
        with pytest.raises(LuhuoError):
            archives.unpack(tmp_path / name, "", tmp_path / "out")


def test_a_password_in_an_address_is_sent_and_never_shown(served, monkeypatch):
    folder, address = served
    (folder / "simple" / "demo-pkg").mkdir(parents=True)
    (folder / "simple" / "demo-pkg" / "index.html").write_text("")
    monkeypatch.setenv("PIP_INDEX_URL", f"{address.replace('//', '//name:word@')}/simple")
    with pytest.raises(LuhuoError) as error:
        resolve("pypi:demo-pkg==1.0/x#sha256=" + "0" * 64)
    assert "127.0.0.1" in str(error.value) and "word" not in str(error.value)


def test_offline_no_index_is_asked(served, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", f"{served[1]}/simple")
    monkeypatch.setenv("LUHUO_OFFLINE", "1")
    with pytest.raises(LuhuoError, match="LUHUO_OFFLINE"):
        resolve("pypi:demo-pkg==1.0/x#sha256=" + "0" * 64)
