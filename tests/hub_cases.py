"""What tests of hubs share: a small model, and a stand-in hub where this process looks for the real ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from luhuo.files import transport
from tests.hub_server import Hub, serve

SCHEMES = ["hf", "ms"]
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


def set_apart(patch: pytest.MonkeyPatch, cache: Path) -> None:
    """An own cache, no settings and no tokens of the person who runs the tests, and no waiting between tries."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "MODELSCOPE_DOMAIN", "MODELSCOPE_API_TOKEN"):
        patch.delenv(name, raising=False)
    for name in ("LUHUO_OFFLINE", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        patch.delenv(name, raising=False)
    patch.setenv("HF_TOKEN", "")
    patch.setenv("LUHUO_CACHE", str(cache))
    patch.setattr(transport, "PAUSE_S", 0.0)


@contextmanager
def offered(patch: pytest.MonkeyPatch, repositories: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    """The stand-in hub with these repositories, named by the usual environment variables."""
    with serve(Hub(repositories)) as hub:
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("MODELSCOPE_ENDPOINT", hub.url)
        yield hub


def tree(folder: Path) -> list[str]:
    """Paths of all files, sorted."""
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
