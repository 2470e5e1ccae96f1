"""docs/adding-a-model.md does what it says, in both languages; docs/models.md names every family."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from luhuo.model import families
from tests.encoder_cases import ENCODER_CASES, ENCODER_DECODER_CASES
from tests.family_cases import CASES
from tests.family_checks import SMALL, Case, run

DOCS = Path(__file__).parent.parent / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def more_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules are families too, for as long as the test runs."""
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    caches = (families.families, families._by_architecture)
    for cache in caches:
        cache.cache_clear()
    yield tmp_path
    for cache in caches:
        cache.cache_clear()
    sys.modules.pop(f"{families.__name__}.jais2", None)


def test_the_example_is_a_family_with_the_logits_of_the_reference(more_families: Path) -> None:
    module, line = blocks("adding-a-model.md")
    ast.parse(module)
    (more_families / "jais2.py").write_text(module, encoding="utf-8")
    cases: dict[str, Case] = eval(f"{{{line}}}", {"Case": Case, "SMALL": SMALL})
    found = run(cases["jais2"])
    assert max(found.full, found.padded, found.packed, found.cached, found.reopened) < 1e-4
    assert found.round_trip


def test_both_languages_show_the_same_code() -> None:
    assert blocks("adding-a-model.md") == blocks("adding-a-model.zh.md")


def test_every_family_is_compared_with_a_reference() -> None:
    compared = {case.family for cases in (CASES, ENCODER_CASES, ENCODER_DECODER_CASES) for case in cases.values()}
    assert set(families.families()) == compared


def test_the_table_of_models_has_a_line_for_every_family() -> None:
    page = (DOCS / "models.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    missing = set(families.families()) - named
    assert not missing, f"python -m tests.family_table writes the lines of {sorted(missing)}"


def test_every_line_of_the_table_is_of_a_family_and_within_the_tolerance() -> None:
    lines = re.findall(r"^\| `(\w+)` \|(.*)$", (DOCS / "models.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {name for name, _ in lines} <= set(families.families())
    assert not [name for name, rest in lines if "**" in rest or "bit for bit" not in rest]
