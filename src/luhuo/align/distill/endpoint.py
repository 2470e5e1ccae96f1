"""Chat completions from an OpenAI-compatible server: tried again where that may help, politely, and never silently.

A busy server (429) is left alone by all requests for as long as it says. What is refused for good (400, 413, 422) is
a failure of that prompt; a wrong key, a model that is not there, a spent quota, or a server that cannot be reached,
ends the run with one message, and what was answered stays.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from luhuo.align.distill.endpoint_config import EndpointConfig
from luhuo.align.rewards.server import NoRedirects
from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.files.transport import passing, public

PAUSE_S = 0.5
"""Seconds before the second try; each further one waits twice as long."""
LONGEST_S = 60.0
"""Nobody waits longer for the next try, unless the server asks for it."""
MOST_ASKED_S = 600.0
"""Nor longer than this if it does."""
MOST_BYTES = 16 << 20
FOR_GOOD = (401, 403, 404)
"""Answers that no other prompt would get around."""


@dataclass(frozen=True)
class Reply:
    """One answer."""

    text: str
    reasoning: str
    """What the model thought before it, where the server tells it apart."""
    ended: bool
    """False: it was cut off."""
    tokens: int
    places: list[dict[str, float]] = field(default_factory=list)
    """At each place the log-probabilities of the likeliest tokens by text, if they were asked for and told."""
    prompt_tokens: int = 0


class Refused(Exception):
    """The server will not answer this prompt; the text says why."""


class TimedOut(RunFailed):
    """The server took this prompt and gave no answer in time, however often it was asked."""


class Endpoint:
    """A server that answers conversations, for use by several threads. `close` ends all waiting.

    Raises `LuhuoError` where the address is none, or the variable with the key is not set.
    """

    def __init__(self, config: EndpointConfig) -> None:
        base = config.url or os.environ.get("OPENAI_BASE_URL", "")
        if not base.startswith(("http://", "https://")):
            raise LuhuoError(
                tr("The address of the endpoint is missing.", "缺少端点地址。"),
                expected="https://HOST/v1",
                found=public(base) or None,
                where=tr("endpoint.url, or the variable OPENAI_BASE_URL", "endpoint.url，或环境变量 OPENAI_BASE_URL"),
            )
        self.config, self.url = config, base.rstrip("/") + "/chat/completions"
        self.name = public(self.url)
        self.headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "luhuo"}
        if config.key_from:
            key = os.environ.get(config.key_from, "")
            if not key:
                raise LuhuoError(
                    tr("The key of the endpoint is not set.", "未设置端点的密钥。"),
                    expected=tr("an environment variable with the key", "存有密钥的环境变量"),
                    where=config.key_from,
                )
            self.headers["Authorization"] = f"Bearer {key}"
        self._opener = urllib.request.build_opener(NoRedirects())
        self._closed = threading.Event()
        self._not_before = 0.0

    def close(self) -> None:
        """Requests that wait for another try give up."""
        self._closed.set()

    def open(self, request: urllib.request.Request) -> Any:
        """The server's answer to one request, to be read as it comes; no redirect is followed. Raises `OSError`."""
        return self._opener.open(request, timeout=self.config.seconds)

    def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        temperature: float,
        max_tokens: int,
        seed: int,
        top_logprobs: int = 0,
    ) -> Reply:
        """One answer. Raises `Refused` for this prompt alone, `LuhuoError` where no other would fare better."""
        body = {
            "model": self.config.model,
            "messages": list(messages),
            "temperature": temperature,
            "max_tokens": max_tokens,
            "seed": seed,
            **({"logprobs": True, "top_logprobs": top_logprobs} if top_logprobs else {}),
            **self.config.parameters,
        }
        sent = json.dumps({name: value for name, value in body.items() if value is not None}, ensure_ascii=False)
        found = self._post(sent.encode("utf-8", "surrogatepass"))
        try:
            return _reply(json.loads(found))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
            raise Refused(f"{type(error).__name__}: {error}; {found[:200].decode('utf-8', 'replace')}") from None

    def _post(self, body: bytes) -> bytes:
        for attempt in range(self.config.tries):
            self._wait(self._not_before - time.monotonic())
            try:
                request = urllib.request.Request(self.url, data=body, headers=self.headers, method="POST")
                with self.open(request) as response:
                    answer = response.read(MOST_BYTES + 1)
                if len(answer) > MOST_BYTES:
                    raise Refused(tr("the answer is too long", "应答过长"))
                return answer
            except urllib.error.HTTPError as error:
                told = _told(error)
                if error.code in FOR_GOOD or "insufficient_quota" in told:
                    raise self._refused(error.code, told) from None
                if not passing(error) or attempt == self.config.tries - 1:
                    raise Refused(f"HTTP {error.code}: {told}") from None
                pause = _asked_for(error)
                if error.code == 429 and pause is not None:
                    self._not_before = max(self._not_before, time.monotonic() + pause)
            except (OSError, http.client.HTTPException) as error:
                if attempt == self.config.tries - 1:
                    raise self._unreachable(error) from None
                pause = None
            self._wait(min(LONGEST_S, PAUSE_S * 2**attempt) * (0.5 + random.random()) if pause is None else pause)
        raise Refused(self.name)

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self._closed.wait(seconds)
        if self._closed.is_set():
            raise Refused(tr("the run was stopped", "运行已停止"))

    def _refused(self, code: int, told: str) -> LuhuoError:
        return LuhuoError(
            tr("The endpoint refuses to answer.", "端点拒绝应答。"),
            found=f"HTTP {code}: {told}",
            where=f"{self.name}, model {self.config.model}",
            fix=tr(
                "Look at endpoint.model, at the key in the variable that endpoint.key_from names, and at the quota. "
                "Run the same command again: what was answered is kept.",
                "请检查 endpoint.model、endpoint.key_from 所指变量中的密钥与额度。"
                "重新运行同一命令：已得到的回答会保留。",
            ),
        )

    def _unreachable(self, error: Exception) -> RunFailed:
        late = isinstance(error, TimeoutError)  # while connecting, urllib wraps it: then nobody is there
        return (TimedOut if late else RunFailed)(
            tr("The endpoint cannot be reached.", "无法连接端点。"),
            found=tr(
                f"{type(error).__name__}: {error}, {self.config.tries} times",
                f"{type(error).__name__}: {error}（{self.config.tries} 次）",
            ),
            where=self.name,
            fix=tr(
                "Run the same command again when it answers: what was answered is kept.",
                "待其恢复后重新运行同一命令：已得到的回答会保留。",
            ),
        )


def _reply(found: Any) -> Reply:
    choice = found["choices"][0]
    message = choice["message"]
    text, thought = message.get("content"), message.get("reasoning_content") or message.get("reasoning")
    if text is not None and not isinstance(text, str):
        raise TypeError(f"content: {type(text).__name__}")
    usage = found.get("usage")
    counts = [usage.get(f"{part}_tokens") if isinstance(usage, Mapping) else None for part in ("completion", "prompt")]
    tokens, prompt_tokens = (count if isinstance(count, int) else 0 for count in counts)
    return Reply(
        _whole(text or ""),
        _whole(thought) if isinstance(thought, str) else "",
        choice.get("finish_reason") != "length",
        tokens,
        [_likeliest(place) for place in (choice.get("logprobs") or {}).get("content") or []],
        prompt_tokens,
    )


def _likeliest(place: Mapping[str, Any]) -> dict[str, float]:
    """Log-probabilities by text; halves of characters can have the same text, of which the likeliest counts."""
    found: dict[str, float] = {}
    for one in place.get("top_logprobs") or [place]:
        text, value = str(one["token"]), float(one["logprob"])
        found[text] = max(value, found.get(text, value))
    return found


def _whole(text: str) -> str:
    """The text without halves of characters, which no file could hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _told(error: urllib.error.HTTPError) -> str:
    """What the server says about an error, in at most 300 characters."""
    try:
        body = error.read(4096).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return str(error.reason)
    return " ".join(body.split())[:300] or str(error.reason)


def _asked_for(error: urllib.error.HTTPError) -> float | None:
    """Seconds that the server asks to wait, as a number or as a date; None if it does not."""
    value = error.headers.get("Retry-After") if error.headers else None
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), MOST_ASKED_S)
