"""Frozen, typed, strict configuration: an unknown key is an error that names the nearest known one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr


class InputMark:
    """Marks a field that names a file, a folder or a stage's output: its digest is part of the cache key."""


Input = Annotated[str, InputMark()]
"""The type of a field that names an input: a path (`${stage}` is replaced before) or a reference such as `pypi:`."""


def field(default: Any, en: str, zh: str, *, watch: bool = False, **constraints: Any) -> Any:
    """A config field with its one-line description in both languages. `...` as default means required.

    `watch`: the field of a stage says what is looked at and changes nothing in the result, so it is left out of the
    cache key: a run goes on, or is reused, when it is changed.
    """
    return Field(default, description=en, json_schema_extra={"zh": zh, "watch": watch}, **constraints)


class Config(BaseModel):
    """Base of every configuration class."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, protected_namespaces=())

    @classmethod
    def parse(cls, values: dict[str, Any], where: str | None = None) -> Self:
        """Validate plain values. All mistakes are reported in one `LuhuoError`."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _readable(cls, error.errors(), where) from None

    def map_inputs(self, change: Callable[[str], str]) -> Self:
        """The same configuration with `change` applied to the value of each `Input`."""
        changed = {path: new for path, value in self.inputs() if (new := change(value)) != value}
        values = self.model_dump(mode="json")
        for path, new in changed.items():
            *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
            spot: Any = values
            for part in parents:
                spot = spot[part]
            spot[last] = new
        return type(self).parse(values) if changed else self

    @classmethod
    def watch_fields(cls) -> set[str]:
        """Names of the fields that change nothing in the result."""
        extras = {name: info.json_schema_extra for name, info in cls.model_fields.items()}
        return {name for name, extra in extras.items() if isinstance(extra, dict) and extra.get("watch")}

    def inputs(self) -> Iterator[tuple[str, str]]:
        """Yield (field path, value) for each `Input`, also inside lists, dicts and nested configs."""
        for name, info in type(self).model_fields.items():
            marked = any(isinstance(m, InputMark) for m in info.metadata) or "InputMark" in repr(info.annotation)
            yield from _find_inputs(name, getattr(self, name), marked)


def _find_inputs(path: str, value: Any, marked: bool) -> Iterator[tuple[str, str]]:
    if isinstance(value, Config):
        for name, item in value.inputs():
            yield f"{path}.{name}", item
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _find_inputs(f"{path}.{i}", item, marked)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _find_inputs(f"{path}.{key}", item, marked)
    elif marked and isinstance(value, str):
        yield path, value


def nearest(word: str, known: list[str]) -> str | None:
    """The known word closest to a misspelt one, or None."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return close[0] if close else None


def unknown_key(word: str, known: list[str], where: str | None, kind: str = "") -> LuhuoError:
    """The error for a name that does not exist, with the nearest one that does."""
    close = nearest(word, known)
    return LuhuoError(
        tr(f"Unknown {kind or 'key'}: {word}", f"未知的{kind or '键'}：{word}"),
        expected=", ".join(known),
        where=where,
        fix=tr(f"Did you mean “{close}”?", f"是不是“{close}”？") if close else None,
    )


def _readable(cls: type[Config], errors: list[ErrorDetails], where: str | None) -> LuhuoError:
    lines, fixes = [], []
    for error in errors:
        path = ".".join(str(part) for part in error["loc"])
        if error["type"] == "extra_forbidden":
            close = nearest(str(error["loc"][-1]), _siblings(cls, error["loc"][:-1]))
            lines.append(tr(f"{path}: unknown key", f"{path}：未知的键"))
            if close:
                fixes.append(tr(f"Did you mean “{close}” instead of “{path}”?", f"“{path}”是不是“{close}”？"))
        elif error["type"] == "union_tag_invalid":
            context = error.get("ctx", {})
            tag, known = str(context["tag"]), re.findall(r"'([^']+)'", str(context["expected_tags"]))
            close = nearest(tag, known)
            lines.append(tr(f"{path}: unknown kind “{tag}”", f"{path}：未知的类型“{tag}”") + f" ({', '.join(known)})")
            if close:
                fixes.append(tr(f"Did you mean “{close}” instead of “{tag}”?", f"“{tag}”是不是“{close}”？"))
        elif error["type"] == "missing":
            lines.append(tr(f"{path}: missing, it has no default", f"{path}：缺少，且没有默认值"))
        else:
            lines.append(f"{path or cls.__name__}: {error['msg']} ({tr('found', '实为')}: {error['input']!r})")
    return LuhuoError(
        tr(f"{cls.__name__}: the configuration is not valid.", f"{cls.__name__}：配置无效。"),
        found="; ".join(lines),
        where=where,
        fix=" ".join(fixes) or None,
    )


def _siblings(cls: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Names of the fields beside an unknown key, following nested config classes along `path`. Of several classes
    that a field may hold, told apart by their `kind`, the path names the one."""
    options: list[type[BaseModel]] = [cls]
    for part in path:
        info = next((option.model_fields[str(part)] for option in options if str(part) in option.model_fields), None)
        if info is None:
            named = [option for option in options if part in (field.default for field in option.model_fields.values())]
            options = named or options
            continue
        options = [t for t in _classes(info.annotation) if issubclass(t, BaseModel)] or options
    return list(options[0].model_fields)


def _classes(annotation: Any) -> list[type]:
    arguments = getattr(annotation, "__args__", ())
    here = [annotation] if isinstance(annotation, type) and not arguments else []
    return here + [c for a in arguments for c in _classes(a)]
