"""Opening addresses (https, http, file): pip's certificates, proxies, timeouts, the offline switch, pages."""

from __future__ import annotations

import base64
import http.client
import os
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luhuo.core.language import tr

TRIES = 3
PAUSE_S = 1.0
"""Seconds before the second try; each further one waits that much longer."""

PAGE_BYTES = 64 * 2**20
SECRETS = ("authorization", "cookie")

_certificates: list[str] = []


class OfflineError(OSError):
    """Downloads are switched off."""


@dataclass(frozen=True)
class Answer:
    """A page: its final address, its kind and its content."""

    url: str
    content_type: str
    body: bytes


def offline() -> bool:
    """Whether `LUHUO_OFFLINE` forbids downloads."""
    return os.environ.get("LUHUO_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def trust(certificates: str) -> None:
    """Check servers against this file of certificates (pip's `cert` setting) as well."""
    _certificates[:] = [certificates]


def public(address: str) -> str:
    """An address without the name and password it may hold, for messages."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", address)


def passing(error: OSError | http.client.HTTPException) -> bool:
    """Whether another try may help: a broken connection, a busy or failing server; not a refusal."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in (408, 429)
    return not isinstance(error, OfflineError)


def read(url: str, *, accept: str, headers: Mapping[str, str] | None = None) -> Answer | None:
    """A page, or None where the server says there is none (404, 410). Raises `OSError` otherwise."""
    last: OSError | None = None
    for attempt in range(TRIES):
        try:
            with open_url(url, {"Accept": accept, **(headers or {})}) as response:
                kind = response.headers.get("Content-Type", "text/html")
                body = response.read(PAGE_BYTES + 1)
                if len(body) > PAGE_BYTES:
                    raise OSError(tr(f"a page of more than {PAGE_BYTES:,} bytes", f"页面超过 {PAGE_BYTES:,} 字节"))
                return Answer(response.geturl(), kind, body)
        except urllib.error.HTTPError as error:
            if error.code in (404, 410):
                return None
            last = error
        except http.client.HTTPException as error:
            last = OSError(f"{type(error).__name__}: {error}")
        except OSError as error:
            last = error
        if url.startswith("file:") or not passing(last):
            break
        time.sleep(PAUSE_S * attempt)
    raise last or OSError(url)


def open_url(url: str, headers: Mapping[str, str]) -> Any:
    """The open response. Credentials in the address become a header; secrets do not follow to another host."""
    parts = urllib.parse.urlsplit(url)
    if offline() and parts.scheme != "file":
        raise OfflineError(tr("LUHUO_OFFLINE forbids downloads", "LUHUO_OFFLINE 禁止下载"))
    sent = {"User-Agent": "luhuo", **headers}
    if parts.username:
        secret = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        sent["Authorization"] = "Basic " + base64.b64encode(secret.encode()).decode()
        url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    context = ssl.create_default_context()
    if _certificates and Path(_certificates[0]).is_file():
        context.load_verify_locations(_certificates[0])
    opener = urllib.request.build_opener(_Redirects(), urllib.request.HTTPSHandler(context=context))
    timeout = float(os.environ.get("PIP_DEFAULT_TIMEOUT", 60))
    return opener.open(urllib.request.Request(url, headers=sent), timeout=timeout)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Hubs redirect to storage on other hosts: a token must not be sent there, and a page must not name a file."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if (
            following is not None
            and urllib.parse.urlsplit(newurl).netloc != urllib.parse.urlsplit(req.full_url).netloc
        ):
            for name in [name for name in following.headers if name.lower() in SECRETS]:
                following.remove_header(name)
        return following
