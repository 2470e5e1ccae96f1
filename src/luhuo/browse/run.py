"""`luhuo corpus-browse`: the page at this machine's own address until a signal comes."""

from __future__ import annotations

from pathlib import Path

from luhuo.browse.worker import Searcher
from luhuo.core.language import tr
from luhuo.rank.run import listen

HOST = "127.0.0.1"


def serve(folder: Path, port: int) -> None:
    """Show the page. Raises `LuhuoError` when there is no corpus, the port is taken, or an extra is missing."""
    from luhuo.browse.app import create_app  # `listen` has looked for FastAPI

    told = tr("Corpus at", "语料页面："), tr("nothing was changed", "没有改动任何内容")
    with Searcher(folder) as searcher:
        listen(lambda: create_app(searcher), HOST, port, told)
