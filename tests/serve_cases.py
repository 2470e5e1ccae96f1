"""Servers for the tests of `luhuo serve`: real sockets on this machine, small random models."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import openai
import torch
import uvicorn

from luhuo.model.encoder import Encoder
from luhuo.model.encoder_config import EncoderConfig, SentenceConfig
from luhuo.serve.app import create_app
from luhuo.serve.config import ServeConfig
from luhuo.serve.house import House
from luhuo.serve.keys import KeyConfig, Keys
from luhuo.serve.served import Served
from tests.small_chat import small_model, small_tokenizer

HELLO = [{"role": "user", "content": "hello"}]
GREEDY = {"model": "small", "messages": HELLO, "temperature": 0, "max_tokens": 12}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "town": {"enum": ["上海", "Oslo"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["town", "days"],
            "additionalProperties": False,
        },
    },
}


@dataclass
class Running:
    """A server that runs in a thread of the test's process."""

    house: House
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, key: str = "none", **options) -> openai.OpenAI:
        """The official client; it tries nothing twice unless told to."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, **{"max_retries": 0, "timeout": 60} | options)


def small_encoder() -> Encoder:
    """A random encoder over the small tokenizer."""
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab_size=small_tokenizer().vocab_size,
        hidden_size=32,
        layers=1,
        heads=2,
        head_dim=16,
        intermediate_size=48,
        max_positions=64,
        sentence=SentenceConfig(normalise=True),
    )
    model = Encoder(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    model.tokenizer = small_tokenizer()
    return model.eval()


@contextlib.contextmanager
def running(*, keys: tuple[KeyConfig, ...] = (), models: list[Served] | None = None, **settings) -> Iterator[Running]:
    """A server, by default of a small chat model “small” and an encoder “vectors”."""
    served = models or [Served.of("small", small_model()), Served.of("vectors", small_encoder())]
    house = House(ServeConfig.parse(settings), served, Keys(list(keys)))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(house), log_level="error", lifespan="off", backlog=4096)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=asyncio.run, args=(server.serve(sockets=[listener]),), daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        yield Running(house, listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)
        house.close()
        listener.close()
