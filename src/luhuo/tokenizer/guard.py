"""Errors of the `tokenizers` library turned into ours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from luhuo.core.errors import LuhuoError


@contextlib.contextmanager
def library_errors(describe: Callable[[object], LuhuoError]) -> Iterator[None]:
    """Whatever the library raises for a defect of its input, raised as `describe(error)`.

    It raises plain `Exception`, and for some defects a panic, which is a `BaseException` of its own.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, LuhuoError):
        raise
    except BaseException as error:
        raise describe(error) from None
