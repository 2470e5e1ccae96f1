"""Encoders and encoder-decoders give what the reference implementation gives, and give back every tensor."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from tests.encoder_cases import ENCODER_CASES, ENCODER_DECODER_CASES
from tests.encoder_checks import run_encoder, run_encoder_decoder

TOLERANCE = 1e-4


@pytest.mark.parametrize("name", ENCODER_CASES)
def test_states_and_heads_are_those_of_the_reference(name: str) -> None:
    found = run_encoder(ENCODER_CASES[name])
    assert found.full < TOLERANCE, f"whole pass: {found.full}"
    assert found.padded < TOLERANCE, f"batch padded left or right: {found.padded}"
    assert found.packed < TOLERANCE, f"packed documents: {found.packed}"
    assert found.reopened < TOLERANCE, f"exported and opened by the reference: {found.reopened}"
    assert found.round_trip, "the export does not give back every tensor bit for bit"


@pytest.mark.parametrize("name", ENCODER_DECODER_CASES)
def test_written_logits_are_those_of_the_reference(name: str) -> None:
    found = run_encoder_decoder(ENCODER_DECODER_CASES[name])
    assert found.full < TOLERANCE, f"whole pass: {found.full}"
    assert found.padded < TOLERANCE, f"batch padded left or right: {found.padded}"
    assert found.packed < TOLERANCE, f"packed pairs: {found.packed}"
    assert found.cached < TOLERANCE, f"with a cache: {found.cached}"
    assert found.reopened < TOLERANCE, f"exported and opened by the reference: {found.reopened}"
    assert found.round_trip, "the export does not give back every tensor bit for bit"
