"""Who may ask, and how much: API keys, kept and compared as SHA-256 digests, with limits of their own."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from luhuo.core.config import Config, field
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.serve.errors import ApiError, busy

VARIABLE = "LUHUO_API_KEYS"
"""Environment variable: keys separated by commas, each with the default limits."""
WINDOW_S = 60.0


class KeyConfig(Config):
    """One key of the file of keys."""

    name: str = field(..., "Shown in the log instead of the key.", "日志中显示的名称（代替密钥）。", max_length=64)
    sha256: str = field(..., "SHA-256 of the key, in hex.", "密钥的 SHA-256（十六进制）。", pattern="^[0-9a-f]{64}$")
    requests_per_minute: int | None = field(None, "Most requests a minute.", "每分钟最多请求数。", ge=1)
    tokens_per_minute: int | None = field(
        None, "Most tokens a minute, read and written.", "每分钟最多词元数（输入与输出合计）。", ge=1
    )
    concurrent: int | None = field(None, "Most requests at a time.", "同时进行的最多请求数。", ge=1)
    admin: bool = field(False, "May load and unload models.", "可以加载与卸载模型。")


class KeysFile(Config):
    """The file of keys (YAML)."""

    keys: list[KeyConfig] = field(..., "The keys.", "密钥列表。", min_length=1)


class Caller:
    """One key in use: what it did in the last minute and what it does now."""

    def __init__(self, config: KeyConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.config, self._clock = config, clock
        self.running = 0
        self._requests: deque[float] = deque()
        self._tokens: deque[tuple[float, int]] = deque()
        self._spent = 0

    def enter(self) -> None:
        """Count a request in. Raises `ApiError` 429 with the time to wait when a limit is reached."""
        now = self._clock()
        self._forget(now)
        config = self.config
        if config.concurrent is not None and self.running >= config.concurrent:
            raise busy(1, tr(f"This key runs {self.running} requests already.", f"该密钥已有 {self.running} 个请求。"))
        if config.requests_per_minute is not None and len(self._requests) >= config.requests_per_minute:
            limit = config.requests_per_minute
            raise busy(
                self._requests[0] + WINDOW_S - now,
                tr(f"This key may send {limit} requests a minute.", f"该密钥每分钟最多 {limit} 个请求。"),
            )
        if config.tokens_per_minute is not None and self._spent >= config.tokens_per_minute:
            limit = config.tokens_per_minute
            raise busy(
                self._tokens[0][0] + WINDOW_S - now,
                tr(f"This key may use {limit} tokens a minute.", f"该密钥每分钟最多 {limit} 个词元。"),
            )
        self.running += 1
        if config.requests_per_minute is not None:
            self._requests.append(now)

    def leave(self, tokens: int) -> None:
        """Count a request out, with the tokens it took."""
        self.running -= 1
        if self.config.tokens_per_minute is not None and tokens:
            self._tokens.append((self._clock(), tokens))
            self._spent += tokens

    def _forget(self, now: float) -> None:
        while self._requests and self._requests[0] <= now - WINDOW_S:
            self._requests.popleft()
        while self._tokens and self._tokens[0][0] <= now - WINDOW_S:
            self._spent -= self._tokens.popleft()[1]


class Keys:
    """All keys of a server; without any, everybody on the address may ask."""

    def __init__(self, keys: list[KeyConfig]) -> None:
        self.callers = [Caller(key) for key in keys]
        self._anyone = Caller(KeyConfig(name="-", sha256="0" * 64))

    @classmethod
    def read(cls, file: Path | None) -> Keys:
        """From a YAML file and the environment. Raises `LuhuoError` for a file that is not right."""
        listed = list(_from_file(file)) if file else []
        given = [key.strip() for key in os.environ.get(VARIABLE, "").split(",") if key.strip()]
        listed += [
            KeyConfig(name=f"{VARIABLE}-{number}", sha256=hashlib.sha256(key.encode()).hexdigest())
            for number, key in enumerate(given, 1)
        ]
        return cls(listed)

    @property
    def required(self) -> bool:
        """Whether a request needs a key."""
        return bool(self.callers)

    def find(self, authorization: str | None) -> Caller:
        """The caller behind an Authorization header. Raises `ApiError` 401."""
        if not self.callers:
            return self._anyone
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise _refused(tr("This server needs an API key.", "此服务器需要 API 密钥。"))
        digest = hashlib.sha256(key.strip().encode("utf-8", "replace")).hexdigest()
        found = None
        for caller in self.callers:  # all of them, so that the time tells nothing
            if hmac.compare_digest(caller.config.sha256, digest):
                found = caller
        if found is None:
            raise _refused(tr("This API key is not known.", "未知的 API 密钥。"))
        return found


def _refused(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def _from_file(file: Path) -> list[KeyConfig]:
    import yaml

    if not file.is_file():
        raise LuhuoError(tr("There is no such file of keys.", "没有这个密钥文件。"), where=file)
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LuhuoError(
            tr("The file of keys is not valid YAML.", "密钥文件不是有效的 YAML。"), found=error, where=file
        ) from None
    if not isinstance(values, dict):
        raise LuhuoError(
            tr("The file of keys is not a mapping.", "密钥文件不是映射。"),
            expected="keys: [{name, sha256}]",
            where=file,
        )
    return KeysFile.parse(values, str(file)).keys
