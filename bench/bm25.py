"""BM25 on the retrieval sets, without a model: python bench/bm25.py DATA (the folder with cranfield/, zh_wiki_qa/)."""

from __future__ import annotations

import sys
from pathlib import Path

from luhuo.evaluation.metrics.retrieval import measures
from luhuo.evaluation.search import BM25
from luhuo.evaluation.tasks.folders import first_of, rows_of
from luhuo.evaluation.tasks.retrieval import DEPTH, Collection

MOST = 1500
"""Queries of a set."""


def main() -> None:
    """Print the measures of each set."""
    data = Path(sys.argv[1])
    sets = {
        "cranfield": (data / "cranfield", Collection()),
        "drcd": (data / "zh_wiki_qa", Collection.named("drcd")),
        "cmrc": (data / "zh_wiki_qa", Collection.named("cmrc")),
    }
    for name, (folder, collection) in sets.items():
        index = BM25(collection.documents(folder))
        grades = collection.grades(folder)
        queries = {str(row["_id"]): row["text"] for row in rows_of(first_of(folder, collection.queries))}
        asked = [query for query in queries if any(grade > 0 for grade in grades.get(query, {}).values())][:MOST]
        found = [measures(index.ranking(queries[query], DEPTH), grades[query]) for query in asked]
        means = {key: sum(one[key] for one in found) / len(found) for key in found[0]}
        print(name, len(asked), " ".join(f"{key} {value:.4f}" for key, value in means.items()))


if __name__ == "__main__":
    main()
