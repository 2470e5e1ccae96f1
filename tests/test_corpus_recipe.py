"""The corpus factory's recipe from end to end at test size."""

from __future__ import annotations

import json
from pathlib import Path

from luhuo.recipe.runner import run

RECIPE = Path(__file__).parent.parent / "recipes/corpus.yaml"


def test_the_recipe_makes_a_clean_corpus_and_a_model_of_its_mixture(tmp_path: Path) -> None:
    run(RECIPE, tmp_path / "out", variant="test")
    report = json.loads((tmp_path / "out/text/report.json").read_text(encoding="utf-8"))
    assert set(report["sources"]) == {"world", "three-kingdoms", "django-docs"}
    assert {"advertising", "duplicate_exact", "duplicate_near"} <= set(report["dropped"])
    assert report["replaced"]["email"] > 0
    books = report["sources"]["three-kingdoms"]["zh"]
    assert books["kept"] >= 0.97 * books["read"]
    assert (tmp_path / "out/model/model.safetensors").is_file()
