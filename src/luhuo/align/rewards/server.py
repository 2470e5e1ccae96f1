"""Rewards from a server: one request for some completions, tried again where that may help."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.request
from collections.abc import Sequence
from typing import Any

from luhuo.align.rewards.config import HttpReward
from luhuo.align.rewards.function import as_value
from luhuo.align.rewards.score import CompletionInfo, Failure, Item, Mark, Scorer, guarded
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.transport import passing, public

PAUSE_S = 0.5
"""Seconds before the second try; each further one waits twice as long."""
MOST_BYTES = 16 << 20


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without its content, and a token must not travel to another host."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None


def _headers(config: HttpReward) -> dict[str, str]:
    """The headers of a request. Raises `LuhuoError` where the variable with the token is not set."""
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "luhuo"}
    if config.key_from:
        if not os.environ.get(config.key_from):
            raise LuhuoError(
                tr("The token of the reward server is not set.", "未设置奖励服务器的令牌。"), where=config.key_from
            )
        headers["Authorization"] = f"Bearer {os.environ[config.key_from]}"
    return headers


def server(config: HttpReward) -> Scorer:
    """See `HttpReward`. An answer that is none fails for all completions of its request."""
    headers = _headers(config)

    def score(items: Sequence[Item], texts: Sequence[str], infos: Sequence[CompletionInfo]) -> list[Mark | Failure]:
        marks: list[Mark | Failure] = []
        for start in range(0, len(texts), config.batch):
            part = slice(start, start + config.batch)
            marks += _ask(config, headers, items[part], texts[part])
        return marks

    return score


def _ask(
    config: HttpReward, headers: dict[str, str], items: Sequence[Item], texts: Sequence[str]
) -> list[Mark | Failure]:
    try:
        body = json.dumps({"items": [dict(item) for item in items], "completions": list(texts)}, ensure_ascii=False)
        rewards = _post(config, headers, body.encode("utf-8", "surrogatepass"))["rewards"]
        if not isinstance(rewards, list) or len(rewards) != len(texts):
            raise ValueError(tr(f"expected a list of {len(texts)} rewards", f"应返回 {len(texts)} 个奖励"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        failure = Failure(f"{public(config.url)}: {type(error).__name__}: {error}")
        return [failure] * len(texts)
    return [guarded(lambda reward=reward: Mark(as_value(reward))) for reward in rewards]


def _post(config: HttpReward, headers: dict[str, str], body: bytes) -> Any:
    """The JSON of the server's answer. Raises OSError or ValueError after the last try."""
    opener = urllib.request.build_opener(NoRedirects())
    for attempt in range(config.tries):
        try:
            request = urllib.request.Request(config.url, data=body, headers=headers, method="POST")
            with opener.open(request, timeout=config.seconds) as response:
                answer = response.read(MOST_BYTES + 1)
            if len(answer) > MOST_BYTES:
                raise ValueError(tr("the answer is too long", "应答过长"))
            return json.loads(answer)
        except (OSError, http.client.HTTPException) as error:
            last = attempt == config.tries - 1
            if last or not passing(error):
                raise OSError(f"{type(error).__name__}: {error}") from error
            time.sleep(PAUSE_S * 2**attempt)
    raise OSError(config.url)
