"""The models of an arena: each streams its answer, from this machine or from behind an endpoint."""

from __future__ import annotations

import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from luhuo.align.distill.endpoint import Endpoint
from luhuo.align.distill.endpoint_config import EndpointConfig
from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.core.progress import say

Messages = Sequence[Mapping[str, str]]
MOST_BYTES = 4 << 20
"""Of one answer; a server that never stops is cut off."""


class Player(Protocol):
    """A model that answers conversations; several threads may ask it."""

    name: str

    def stream(self, messages: Messages, stop: threading.Event) -> Iterator[str]:
        """Pieces of an answer, until `stop` is set. Raises `LuhuoError`."""
        ...


class LocalPlayer:
    """A model on this machine."""

    def __init__(self, reference: str, settings: Mapping[str, Any]) -> None:
        from luhuo.adapter.open import open_decoder
        from luhuo.inference.answers import shows_special
        from luhuo.inference.engine import Engine
        from luhuo.inference.sampling import Sampling

        self.name = PurePosixPath(reference).name if Path(reference).exists() else reference
        model = open_decoder(reference, dtype=settings["dtype"], device=settings["device"])
        self._engine = Engine(model, max_batch=16)
        shown = shows_special(self._engine.tokenizer, tools=False)
        wanted = {"temperature": settings["temperature"], "max_tokens": settings["max_tokens"]}
        self._sampling = Sampling(**wanted, show_special=shown)

    def stream(self, messages: Messages, stop: threading.Event) -> Iterator[str]:
        """See `Player`. What a model thinks before its answer is not shown."""
        from luhuo.dialogue.conversation import Conversation
        from luhuo.inference.answers import AnswerReader

        prompt = self._engine.prompt_ids(Conversation.of(list(messages)))
        reader = AnswerReader(self._engine.tokenizer, prompt)
        for chunk in self._engine.stream(prompt, self._sampling):
            pieces = [reader.push(chunk.text), *([reader.flush()] if chunk.finish_reason else [])]
            for piece in pieces:
                if piece.content:
                    yield piece.content
            if stop.is_set():
                return


class EndpointPlayer:
    """A model behind an OpenAI-compatible endpoint, named `ADDRESS#MODEL`."""

    def __init__(self, place: str, settings: Mapping[str, Any]) -> None:
        url, _, model = place.partition("#")
        given = {"url": url, "model": model, "key_from": settings["key_from"], "seconds": settings["seconds"]}
        self.name = model
        self._endpoint = Endpoint(EndpointConfig.parse(given, place))
        self._settings = settings

    def stream(self, messages: Messages, stop: threading.Event) -> Iterator[str]:
        """See `Player`. An answer that ends without its end is an error, not an answer."""
        body = {"model": self.name, "messages": list(messages), "stream": True}
        body |= {"temperature": self._settings["temperature"], "max_tokens": self._settings["max_tokens"]}
        request = urllib.request.Request(
            self._endpoint.url,
            data=json.dumps(body).encode(),
            headers=self._endpoint.headers | {"Accept": "text/event-stream"},
            method="POST",
        )
        try:
            with self._endpoint.open(request) as response:
                yield from _pieces(response, stop)
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            told = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else type(error).__name__
            raise RunFailed(tr("The model's server did not answer.", "模型服务没有应答。"), found=told) from None


def _pieces(response: Any, stop: threading.Event) -> Iterator[str]:
    read, ended = 0, False
    for line in response:
        read += len(line)
        if stop.is_set():
            return
        if read > MOST_BYTES:
            raise ValueError("the answer is too long")
        data = line.strip().removeprefix(b"data:").strip()
        if not line.startswith(b"data:") or not data:
            continue
        if data == b"[DONE]":
            break
        chunk = json.loads(data)
        if "error" in chunk:
            raise ValueError("error")
        for choice in chunk.get("choices") or ():
            ended = ended or bool(choice.get("finish_reason"))
            text = (choice.get("delta") or {}).get("content")
            if text:
                yield str(text)
    if not ended:
        raise ValueError("the answer broke off")


def open_players(places: Sequence[str], settings: Mapping[str, Any]) -> list[Player]:
    """The models of an arena. Raises `LuhuoError` unless there are two or more, with names of their own."""
    if len(places) < 2:
        raise LuhuoError(
            tr("An arena needs two models or more.", "竞技场至少需要两个模型。"),
            expected="luhuo arena MODEL MODEL",
            found=", ".join(places) or None,
        )
    players: list[Player] = []
    for place in places:
        remote = place.startswith(("http://", "https://"))
        if remote and "#" not in place:
            raise LuhuoError(
                tr("Say which model of the endpoint.", "请指明端点的模型名。"),
                expected="https://HOST/v1#MODEL",
                found=place,
            )
        say(tr(f"Opening {place}", f"正在打开 {place}"))
        players.append(EndpointPlayer(place, settings) if remote else LocalPlayer(place, settings))
    names = [player.name for player in players]
    if len(set(names)) < len(names):
        raise LuhuoError(tr("Two models have the same name.", "有两个模型同名。"), found=", ".join(names))
    return players
