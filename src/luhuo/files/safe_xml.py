"""Reading XML that nobody vouches for, piece by piece: no entities, no outside files, no tree in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO
from xml.parsers import expat

CHUNK = 2**16

DEPTH = 2000
"""Elements inside of each other; no document nests deeper."""


TAG_BYTES = 2**22
"""The longest tag or comment: the parser holds it whole."""


class BadXml(ValueError):
    """Not well-formed, cut off, or with declarations that could make a small file large."""


class Event:
    """`kind` is "start", "end" or "text"; `value` the element's name without its namespace, or the text."""

    __slots__ = ("attributes", "kind", "value")

    def __init__(self, kind: str, value: str, attributes: dict[str, str]) -> None:
        self.kind, self.value, self.attributes = kind, value, attributes


NOTHING: dict[str, str] = {}


def events(raw: IO[bytes]) -> Iterator[Event]:
    """What stands in an XML file, in order. Attribute names come without namespaces too. Raises `BadXml`."""
    waiting: list[Event] = []
    depth = silent = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEPTH:
            raise BadXml(f"more than {DEPTH} elements inside of each other")
        waiting.append(Event("start", _local(name), {_local(key): value for key, value in attributes.items()}))

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        waiting.append(Event("end", _local(name), NOTHING))

    def declared(*_: object) -> None:
        raise BadXml("it declares entities")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = lambda text: waiting.append(Event("text", text, NOTHING))
    parser.EntityDeclHandler = declared
    try:
        while block := raw.read(CHUNK):
            parser.Parse(block, False)
            silent = 0 if waiting else silent + len(block)
            if silent > TAG_BYTES:
                raise BadXml("a tag that does not end")
            yield from waiting
            waiting.clear()
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise BadXml(str(error)) from error
    yield from waiting


def _local(name: str) -> str:
    return name.rpartition(" ")[2]
