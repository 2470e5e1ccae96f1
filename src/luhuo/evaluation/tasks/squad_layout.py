"""Questions on passages, as SQuAD's JSON holds them or as a retrieval set of the same questions does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.evaluation.tasks.folders import document_of, first_of, rows_of, unreadable
from luhuo.verify.answers import split_reasoning

Row = dict[str, Any]


def questions(folder: Path | None, original: str, prefix: str, split: str) -> Iterator[Row]:
    """{"id", "context", "question", "answers"} from the original file, or from PREFIX_queries, _corpus and _qrels.

    Raises `LuhuoError` where neither is there.
    """
    try:
        files = first_of(folder, (original,))
    except LuhuoError:
        first_of(folder, (original, f"{prefix}_queries.jsonl*"))
        yield from _retrieval(folder, prefix, split)
        return
    for file in files:
        yield from _squad(document_of(file), str(file))


def _squad(content: Any, where: str) -> Iterator[Row]:
    try:
        for article in content["data"]:
            for paragraph in article["paragraphs"]:
                for asked in paragraph["qas"]:
                    answers = list(dict.fromkeys(answer["text"] for answer in asked["answers"]))
                    yield {
                        "id": str(asked["id"]),
                        "context": paragraph["context"],
                        "question": asked["question"],
                        "answers": answers,
                    }
    except (KeyError, TypeError) as error:
        raise unreadable(where, f"{type(error).__name__}: {error}") from None


def _retrieval(folder: Path | None, prefix: str, split: str) -> Iterator[Row]:
    passages = {row["_id"]: row["text"] for row in rows_of(first_of(folder, (f"{prefix}_corpus.jsonl*",)))}
    judged = rows_of(first_of(folder, (f"{prefix}_qrels.tsv*",)))
    passage = {row["query-id"]: row["corpus-id"] for row in judged}
    for row in rows_of(first_of(folder, (f"{prefix}_queries.jsonl*",))):
        if row.get("split", split) == split:
            context = passages[passage[row["_id"]]]
            yield {"id": row["_id"], "context": context, "question": row["text"], "answers": row["answers"]}


def said(reply: str) -> str:
    """The answer in a reply: what is said after any reasoning, its first line."""
    return split_reasoning(reply)[1].strip().partition("\n")[0].strip()
