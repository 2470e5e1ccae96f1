"""The ranking page's server: what to judge next, what was judged, and how far everybody is.

Answers are told without the names of their models, in an order of each person's own. What a person calls themselves
keeps their judgements together; it is a name, not a secret.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field

from luhuo.rank.local_app import Desk, local_app
from luhuo.rank.order import next_item, shown
from luhuo.rank.progress import progress
from luhuo.rank.store import Judgement, Store, Verdict

PAGE = Path(__file__).parent / "page"
NAME = 64
"""Longest name of an annotator."""
Name = Annotated[str, Query(min_length=1, max_length=NAME, pattern=r"\S")]


class JudgementBody(BaseModel):
    """POST /api/judgements."""

    model_config = ConfigDict(extra="forbid")

    item: int
    annotator: Annotated[str, Field(min_length=1, max_length=NAME, pattern=r"\S")]
    verdict: Verdict
    ranks: Annotated[dict[int, Annotated[int, Field(ge=1, le=64)]], Field(max_length=64)] = {}
    comment: Annotated[str, Field(max_length=4000)] = ""
    seconds: Annotated[float, Field(ge=0, le=1e6)] = 0.0


def create_app(path: str | Path, hosts: tuple[str, ...] = ()) -> FastAPI:
    """The application over the project file `path`; `hosts` are further names it may be called by."""
    app = local_app(PAGE, hosts, "rank.css")
    desk = Desk(Store(path))

    @app.get("/api/project")
    async def project() -> dict[str, Any]:
        return await desk.run(lambda store: {"title": store.setting("title", ""), "items": len(store.numbers())})

    @app.get("/api/next")
    async def following(annotator: Name) -> dict[str, Any]:
        return await desk.run(lambda store: _next(store, annotator.strip()))

    @app.get("/api/items/{number}")
    async def one(number: int, annotator: Name) -> dict[str, Any]:
        return await desk.run(lambda store: _item(store, number, annotator.strip()))

    @app.post("/api/judgements", status_code=201)
    async def judge(body: JudgementBody) -> dict[str, Any]:
        name = body.annotator.strip()
        judgement = Judgement(body.item, name, body.verdict, body.ranks, body.comment.strip(), body.seconds)

        def work(store: Store) -> dict[str, Any]:
            store.judge(judgement)
            return _next(store, name)

        return await desk.run(work)

    @app.get("/api/history")
    async def history(annotator: Name) -> dict[str, Any]:
        return await desk.run(lambda store: _history(store, annotator.strip()))

    @app.get("/api/progress")
    async def everybody() -> dict[str, Any]:
        return await desk.run(progress)

    return app


def _next(store: Store, annotator: str) -> dict[str, Any]:
    number = next_item(store, annotator)
    if number is not None:
        return _item(store, number, annotator)
    return {"item": None, "done": len(store.judgements(annotator)), "total": len(store.numbers())}


def _item(store: Store, number: int, annotator: str) -> dict[str, Any]:
    """An item as one person sees it, with what they said of it before, if anything."""
    item = store.item(number)
    answers = shown(item, annotator, int(store.setting("seed", 0)))
    mine = store.judgements(annotator)
    said = next((judgement for judgement in mine if judgement.item == number), None)
    return {
        "item": number,
        "prompt": item.prompt,
        "answers": [{"id": answer.id, "text": answer.text} for answer in answers],
        "said": None if said is None else {"verdict": said.verdict, "ranks": said.ranks, "comment": said.comment},
        "done": len(mine),
        "total": len(store.numbers()),
    }


def _history(store: Store, annotator: str) -> dict[str, Any]:
    """Items one person has judged, the newest first."""
    mine = sorted(store.judgements(annotator), key=lambda judgement: -judgement.at)
    return {"items": [{"item": judgement.item, "verdict": judgement.verdict} for judgement in mine]}
