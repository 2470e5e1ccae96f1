"""Reading a recipe: YAML to validated stages in an order in which each finds its inputs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from luhuo.core.artifact import REFERENCE_SCHEMES, local_files
from luhuo.core.config import Config, unknown_key
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.stage import Stage
from luhuo.recipe.require import Requirement
from luhuo.stages import configured

REFERENCE = re.compile(r"\$\{([^{}]*)\}")


class Recipe(Config):
    """A recipe file. `stages` maps the name of a directory to its stage, its fields and its requirements."""

    name: str = Field(description="Name, shown in the report.")
    description: str = Field("", description="What this recipe makes.")
    seed: int = Field(0, description="Seed of every stage that does not name its own.", ge=0)
    stages: dict[str, dict[str, Any]] = Field(description="Directory name -> stage and its fields.", min_length=1)
    variants: dict[str, dict[str, Any]] = Field({}, description="Named sets of overrides (--variant NAME).")
    next: str = Field("", description="The command to type when the recipe is done; ${stage} is its directory.")


class Step(Config):
    """One validated entry of `stages`."""

    name: str
    stage: str
    config: dict[str, Any]
    requirements: list[Requirement]
    needs: list[str]


class _UniqueLoader(yaml.SafeLoader):
    """YAML's safe loader, which would silently keep the last of two equal keys, made to refuse them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key “{key}” stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_recipe(path: str | Path, overrides: dict[str, Any] | None = None, variant: str | None = None) -> Recipe:
    """Read a recipe file and apply a variant, then overrides such as {"base.steps": 100}. Raises `LuhuoError`."""
    path = Path(path)
    if not path.is_file():
        raise LuhuoError(tr("There is no such recipe.", "没有这个配方文件。"), where=path, expected="recipes/*.yaml")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _UniqueLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LuhuoError(
            tr("The recipe is not valid YAML.", "配方不是有效的 YAML。"), found=error, where=path
        ) from None
    if not isinstance(values, dict):
        raise LuhuoError(tr("A recipe is a mapping.", "配方应为键值映射。"), expected="stages: {…}", where=path)
    changes: dict[str, Any] = {}
    if variant is not None:
        variants = values.get("variants") or {}
        if variant not in variants:
            raise unknown_key(variant, sorted(variants), str(path), tr("variant", "变体"))
        changes |= variants[variant]
    for key, value in (changes | (overrides or {})).items():
        _override(values, key, value, str(path))
    return Recipe.parse(values, where=str(path))


def _override(values: dict[str, Any], key: str, value: Any, where: str) -> None:
    *parents, last = key.split(".")
    spot: Any = values
    if parents:
        stages = values.get("stages", {})
        if parents[0] not in stages:
            raise unknown_key(parents[0], sorted(stages), f"{where}: {key}", tr("stage", "阶段"))
        spot = stages
    elif last not in Recipe.model_fields or last in ("stages", "variants"):
        known = [f for f in Recipe.model_fields if f not in ("stages", "variants")]
        raise unknown_key(last, [*known, "STAGE.FIELD"], where)
    for part in parents:
        spot = spot.setdefault(part, {}) if isinstance(spot, dict) else spot[int(part)]
    spot[last] = value


def plan(recipe: Recipe, where: str) -> list[Step]:
    """Validate every entry and return the steps in running order. Raises `LuhuoError` before anything runs."""
    steps = {}
    for name, entry in recipe.stages.items():
        here = f"{where}: stages.{name}"
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise LuhuoError(
                tr("A stage's key is the name of a directory.", "阶段的键是目录名。"),
                expected=tr("letters, digits, - and _", "字母、数字、- 和 _"),
                found=name,
                where=here,
            )
        if not isinstance(entry, dict) or "stage" not in entry:
            raise LuhuoError(tr("An entry has no stage.", "条目缺少 stage。"), expected="stage: NAME", where=here)
        config = {"seed": recipe.seed} | {k: v for k, v in entry.items() if k not in ("stage", "require")}
        _check_local_inputs(configured(entry["stage"], config, here), here)
        requirements = [Requirement.parse_pair(m, bound, here) for m, bound in (entry.get("require") or {}).items()]
        needs = sorted(set(_references(config)))
        for need in needs:
            if need not in recipe.stages:
                raise unknown_key(need, sorted(recipe.stages), here, tr("reference", "引用"))
        steps[name] = Step(name=name, stage=entry["stage"], config=config, requirements=requirements, needs=needs)
    return _ordered(steps, where)


def _check_local_inputs(parsed: Stage, where: str) -> None:
    """Inputs that no stage makes must be there before anything runs."""
    for name, value in parsed.inputs():
        local = value.removeprefix("gguf:")
        if "${" not in value and not local.startswith(REFERENCE_SCHEMES):
            local_files(f"{where}: {name}", local)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from REFERENCE.findall(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _ordered(steps: dict[str, Step], where: str) -> list[Step]:
    """Depth-first order of the file, inputs before their users. Raises `LuhuoError` on a cycle."""
    order: list[Step] = []
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            raise LuhuoError(
                tr("The recipe refers to itself in a circle.", "配方存在循环引用。"),
                found=" → ".join([*path[path.index(name) :], name]),
                where=where,
            )
        if name not in done:
            for need in steps[name].needs:
                visit(need, [*path, name])
            done.add(name)
            order.append(steps[name])

    for name in steps:
        visit(name, [])
    return order


def resolve(value: Any, folder: Path) -> Any:
    """Replace each `${stage}` by that stage's directory under `folder`."""
    if isinstance(value, str):
        return REFERENCE.sub(lambda match: (folder / match.group(1)).as_posix(), value)
    if isinstance(value, dict):
        return {k: resolve(v, folder) for k, v in value.items()}
    if isinstance(value, list):
        return [resolve(v, folder) for v in value]
    return value
