"""The rating sheet's server: an expert's next task, reference answers, ratings. Models are nowhere in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field

from luhuo.arena.app import PAGE
from luhuo.arena.sheets import Sheet
from luhuo.rank.app import NAME
from luhuo.rank.local_app import Desk, local_app

Name = Annotated[str, Query(min_length=1, max_length=NAME, pattern=r"\S")]


class ReferenceBody(BaseModel):
    """POST /api/references."""

    model_config = ConfigDict(extra="forbid")
    item: int
    expert: Annotated[str, Field(min_length=1, max_length=NAME, pattern=r"\S")]
    text: Annotated[str, Field(min_length=1, max_length=20_000, pattern=r"\S")]


class RatingBody(BaseModel):
    """POST /api/ratings."""

    model_config = ConfigDict(extra="forbid")
    answer: int
    expert: Annotated[str, Field(min_length=1, max_length=NAME, pattern=r"\S")]
    values: Annotated[dict[str, int], Field(max_length=12)]
    comment: Annotated[str, Field(max_length=4000)] = ""


def create_app(path: str | Path, hosts: tuple[str, ...] = ()) -> FastAPI:
    """The application over the sheet `path`; `hosts` are further names it may be called by."""
    app = local_app(PAGE, hosts, "arena.css", body="sheet_body.html", script="sheet.js")
    desk = Desk(Sheet(path))

    @app.get("/api/sheet")
    async def sheet() -> dict[str, Any]:
        def work(held: Sheet) -> dict[str, Any]:
            return {"title": held.setting("title", ""), "criteria": [one.model_dump() for one in held.criteria]}

        return await desk.run(work)

    @app.get("/api/next")
    async def following(expert: Name) -> dict[str, Any]:
        return await desk.run(lambda held: _next(held, expert.strip()))

    @app.post("/api/references", status_code=201)
    async def reference(body: ReferenceBody) -> dict[str, Any]:
        def work(held: Sheet) -> dict[str, Any]:
            held.write_reference(body.item, body.expert.strip(), body.text)
            return _next(held, body.expert.strip())

        return await desk.run(work)

    @app.post("/api/ratings", status_code=201)
    async def rating(body: RatingBody) -> dict[str, Any]:
        def work(held: Sheet) -> dict[str, Any]:
            held.rate(body.answer, body.expert.strip(), body.values, body.comment.strip())
            return _next(held, body.expert.strip())

        return await desk.run(work)

    return app


def _next(held: Sheet, expert: str) -> dict[str, Any]:
    task = held.next(expert)
    if task is None:
        total = held.total(expert)
        return {"item": None, "done": total, "total": total}
    return held.shown(task, expert)
