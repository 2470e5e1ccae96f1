"""The browsing page's server: pages of what fits a query, and documents. It only reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query
from starlette.concurrency import run_in_threadpool

from luhuo.browse.query import Query as Wanted
from luhuo.browse.query import Range
from luhuo.browse.worker import Searcher
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.rank.local_app import local_app

PAGE = Path(__file__).parent / "page"
MOST = 100
"""Documents of one page."""
MOST_RANGES = 8
Word = Annotated[str, Query(max_length=200)]
Place = Annotated[int, Query(ge=0)]


def create_app(searcher: Searcher, hosts: tuple[str, ...] = ()) -> FastAPI:
    """The application over a corpus; `hosts` are further names it may be called by."""
    app = local_app(PAGE, hosts, "browse.css")

    @app.get("/api/corpus")
    async def corpus() -> dict[str, Any]:
        return await run_in_threadpool(searcher.about)

    @app.get("/api/search")
    async def search(
        text: Annotated[str, Query(max_length=1000)] = "",
        regex: bool = False,
        case: bool = False,
        state: Word = "",
        reason: Word = "",
        source: Word = "",
        lang: Word = "",
        id: Word = "",
        cluster: Word = "",
        signal: Annotated[list[str] | None, Query(max_length=MOST_RANGES)] = None,
        part: Place = 0,
        line: Place = 0,
        limit: Annotated[int, Query(ge=1, le=MOST)] = 30,
    ) -> dict[str, Any]:
        values = {"text": text, "regex": regex, "case": case, "state": state, "reason": reason, "source": source}
        ranges = [range_of(one).model_dump() for one in signal or ()]
        wanted = Wanted.parse(values | {"lang": lang, "id": id, "cluster": cluster, "signals": ranges})
        return await run_in_threadpool(lambda: searcher.search(wanted, (part, line), limit))

    @app.get("/api/documents/{part}/{line}")
    async def document(part: int, line: int) -> dict[str, Any]:
        return await run_in_threadpool(lambda: searcher.document(part, line))

    @app.get("/api/compare")
    async def compare(part: Place, line: Place, other_part: Place, other_line: Place) -> dict[str, Any]:
        return await run_in_threadpool(lambda: searcher.compare((part, line), (other_part, other_line)))

    return app


def range_of(text: str) -> Range:
    """`name:min:max`, either of them empty, as a range. Raises `LuhuoError`."""
    name, *sides = text.split(":")
    try:
        low, high = (float(side) if side else None for side in sides)
    except ValueError:
        raise LuhuoError(
            tr("This is not a range of a signal.", "这不是信号的取值范围。"),
            expected="gopher.words:50:1000",
            found=text,
        ) from None
    return Range(name=name, min=low, max=high)
