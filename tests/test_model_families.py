"""Every family gives the logits of the reference implementation, and gives back every tensor bit for bit."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from tests.family_cases import CASES
from tests.family_checks import run

TOLERANCE = 1e-4


@pytest.mark.parametrize("name", CASES)
def test_logits_and_tensors_are_those_of_the_reference(name: str) -> None:
    found = run(CASES[name])
    assert found.full < TOLERANCE, f"whole pass: {found.full}"
    assert found.padded < TOLERANCE, f"left-padded batch: {found.padded}"
    assert found.packed < TOLERANCE, f"packed documents: {found.packed}"
    assert found.cached < TOLERANCE, f"with a cache: {found.cached}"
    assert found.reopened < TOLERANCE, f"exported and opened by the reference: {found.reopened}"
    assert found.round_trip, "the export does not give back every tensor bit for bit"
