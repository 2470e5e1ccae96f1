"""Encoders and encoder-decoders give what the reference implementation gives, and give back every tensor."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from luhuo.model.encoder_decoder import generate_greedily
from luhuo.model.load import load
from luhuo.model.save import save
from tests.encoder_cases import BART, DEBERTA3, ENCODER_CASES, ENCODER_DECODER_CASES, T5
from tests.encoder_checks import run_encoder, run_encoder_decoder
from tests.family_checks import Case, difference, random_ids, reference

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


WRITERS = {
    "t5": {},
    "t5-1.1": {"num_decoder_layers": 2},  # the reference cannot cache with another number of layers
    "bart": {},
    "mbart": {"forced_bos_token_id": 7},
}


@pytest.mark.parametrize("name", WRITERS)
def test_greedy_writing_is_that_of_the_reference(name: str, tmp_path: Path) -> None:
    case = ENCODER_DECODER_CASES[name]
    theirs = reference(replace(case, settings={**case.settings, **WRITERS[name]}))
    theirs.save_pretrained(tmp_path)
    ids = random_ids(2, 15)
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    settings = {"max_new_tokens": 12, "do_sample": False, "num_beams": 1, **WRITERS[name]}
    settings.pop("num_decoder_layers", None)
    expected = theirs.generate(ids, attention_mask=mask, **settings)[:, 1:]
    ours = load(tmp_path, dtype="fp32", device="cpu")
    first = settings.get("forced_bos_token_id")
    found = generate_greedily(ours, ids, segments=mask, max_tokens=12, first_id=first)
    for row, written in zip(expected.tolist(), found, strict=True):
        assert row[: len(written)] == written
        assert all(token == ours.config.pad_id for token in row[len(written) :])


@pytest.mark.parametrize(
    ("bare", "whole"),
    [
        ("T5Model", "T5ForConditionalGeneration"),
        ("MT5Model", "MT5ForConditionalGeneration"),
        ("BartModel", "BartForConditionalGeneration"),
        ("MBartModel", "MBartForConditionalGeneration"),
    ],
)
def test_files_of_a_bare_encoder_decoder_are_read_with_the_head_they_are_tied_to(
    bare: str, whole: str, tmp_path: Path
) -> None:
    settings = T5 if "T5" in bare else BART
    theirs = reference(Case("any", bare, settings))
    theirs.save_pretrained(tmp_path / "bare")
    ours = load(tmp_path / "bare", dtype="fp32", device="cpu")
    save(ours, tmp_path / "whole")
    again = getattr(transformers, whole).from_pretrained(tmp_path / "whole", dtype=torch.float32).eval()
    ids, written = random_ids(1, 15), random_ids(1, 9)
    with torch.no_grad():
        states = theirs(input_ids=ids, decoder_input_ids=written).last_hidden_state
        assert difference(ours.hidden(ids, written), states) < TOLERANCE
        assert difference(ours(ids, written), again(input_ids=ids, decoder_input_ids=written).logits) < TOLERANCE


def test_files_that_name_no_class_are_read_by_their_type(tmp_path: Path) -> None:
    theirs = reference(Case("deberta_v2", "DebertaV2Model", DEBERTA3))
    theirs.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    values = json.loads(file.read_text())
    del values["architectures"]
    file.write_text(json.dumps(values))
    ids = random_ids(1, 15)
    with torch.no_grad():
        found = load(tmp_path, dtype="fp32", device="cpu")(ids)
        assert difference(found, theirs(ids).last_hidden_state) < TOLERANCE
