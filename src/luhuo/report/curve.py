"""The live curve: one self-contained `curve.html` for one or several runs, written again while they go on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jinja2

from luhuo.core.atomic import write_text
from luhuo.core.errors import LuhuoError
from luhuo.core.language import language, tr
from luhuo.core.processes import is_main
from luhuo.core.progress import say
from luhuo.report.series import RunLog

METRICS = "metrics.jsonl"
PAGE = "curve.html"
EVERY_S = 10.0
"""Between two versions of the page."""
LOCAL = ("127.0.0.1", "localhost", "[::1]")


def render(runs: Sequence[RunLog], title: str, *, live: bool | None = None) -> str:
    """The page of these runs as they are now. What runs wrote is data for it, never markup."""
    found = [run.data(live) for run in runs]
    data = {"title": title, "runs": found, "language": language(), "refresh_s": EVERY_S}
    # Inside a script element only "<" could end it.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("luhuo.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("curve.html.jinja").render(title=title, language=language(), data=text)


def find_runs(paths: Sequence[str | Path]) -> list[RunLog]:
    """The training runs at these places: an artifact, finished or not, or a folder of them. Raises `LuhuoError`."""
    roots = [_root(Path(path)) for path in paths]
    found: list[RunLog] = []
    for root in roots:
        folders = [root] if (root / METRICS).is_file() else sorted(p.parent for p in root.glob(f"*/{METRICS}"))
        logs = [RunLog(folder, _name(folder)) for folder in folders]
        for log in logs:
            log.refresh()
        drawn = [log for log in logs if log.series]
        if not drawn:
            raise LuhuoError(
                tr("There is nothing to draw here.", "这里没有可绘制的训练记录。"),
                expected=METRICS,
                where=root,
                fix=tr("Give the folder of a training stage or of a run.", "请给出训练阶段或整次运行的目录。"),
            )
        found += drawn
    names = [log.name for log in found]
    for log in found:
        if names.count(log.name) > 1:
            log.name = f"{_name(log.folder.absolute().parent)}/{log.name}"
    return found


def write_curve(paths: Sequence[str | Path], out: Path | None = None) -> Path:
    """Write the page of the runs at `paths`; by default into the folder of one, or into the current folder."""
    runs = find_runs(paths)
    target = out or (_root(Path(paths[0])) / PAGE if len(paths) == 1 else Path(PAGE))
    write_text(target, render(runs, _title(paths)))
    return target


@contextmanager
def live_curve(folder: Path) -> Iterator[None]:
    """Keep `folder/curve.html` up to date while a stage works in `folder`; nothing happens if it does not train."""
    if not is_main():
        yield
        return
    page, over = _Page(folder), threading.Event()

    def keep() -> None:
        while not over.wait(EVERY_S):
            page.update(live=True)

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        page.update(live=False)


class _Page:
    """The page of one run while it goes on. It is only looked at: what goes wrong with it is said once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = RunLog(folder, _name(folder))
        self.broken = self.told = False

    def update(self, *, live: bool) -> None:
        try:
            changed = self.log.refresh()
            if self.broken or not self.log.series or (live and not changed):
                return
            write_text(self.folder / PAGE, render([self.log], self.log.name, live=live))
            if live and not self.told:
                say(tr(f"Curve: {self.folder / PAGE}", f"曲线：{self.folder / PAGE}"))
                self.told = True
        except OSError as error:
            if not self.broken:
                say(tr(f"The curve cannot be written: {error}", f"无法写出曲线：{error}"))
            self.broken = True


def serve(paths: Sequence[str | Path], port: int) -> None:
    """Show the page at 127.0.0.1, read anew for each visit, until interrupted. Raises `LuhuoError`."""
    runs, title, lock = find_runs(paths), _title(paths), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host = self.headers.get("Host", "").rsplit(":", 1)[0]
            if self.path.split("?")[0] != "/" or host not in LOCAL:  # another name is another site's trick
                self.send_error(404)
                return
            with lock:
                for run in runs:
                    run.refresh()
                body = render(runs, title).encode()
            self.send_response(200)
            for name, value in (("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))):
                self.send_header(name, value)
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: a page that refreshes itself would fill the terminal."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise LuhuoError(
            tr("The port cannot be opened.", "无法打开该端口。"), found=error, where=port, fix="--port 0"
        ) from None
    with server:
        say(f"http://127.0.0.1:{server.server_address[1]}/")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def _root(path: Path) -> Path:
    """The folder itself, or the one its stage still works in."""
    partial = path.parent / f".{path.name}.partial"
    if not path.is_dir() and partial.is_dir():
        return partial
    if not path.is_dir():
        raise LuhuoError(tr("There is no such folder.", "没有这个目录。"), where=path)
    return path


def _name(folder: Path) -> str:
    return folder.absolute().name.removeprefix(".").removesuffix(".partial")


def _title(paths: Sequence[str | Path]) -> str:
    return ", ".join(_name(Path(path)) for path in paths)
