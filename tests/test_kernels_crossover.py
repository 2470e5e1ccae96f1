"""Where packed products give way to dense ones: measured by a command and kept for a machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from luhuo import doctor
from luhuo.core.errors import LuhuoError
from luhuo.kernels import crossover
from luhuo.kernels.crossover import ROWS, measure, measured, most_rows
from luhuo.kernels.low_bit import product, quantise
from luhuo.kernels.native import library
from luhuo.kernels.packed import pack


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which nothing was measured."""
    monkeypatch.setattr(crossover, "cache_folder", lambda: tmp_path)
    measured.cache_clear()
    yield
    measured.cache_clear()


def test_without_a_measurement_limits_are_the_same_everywhere() -> None:
    assert {form: most_rows(form) for form in ROWS} == ROWS


@pytest.mark.skipif(library() is None, reason="no C++ compiler here")
def test_what_was_measured_counts_for_every_process_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossover, "SHAPE", (64, 64))
    monkeypatch.setattr(crossover, "TRIED", (2, 4))
    found = measure()
    assert set(found) == {"int8", "int4", "fp8", "sparse"} and set(found.values()) <= {0, 2, 4}
    measured.cache_clear()  # as another process would see it
    assert measured() == found and most_rows("int4") == found["int4"]


@pytest.mark.skipif(library() is None, reason="no C++ compiler here")
def test_the_doctor_measures_when_asked_and_tells_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--measure" in doctor._crossover().detail
    monkeypatch.setattr(crossover, "SHAPE", (64, 64))
    monkeypatch.setattr(crossover, "TRIED", (2,))
    doctor.measure()
    assert all(f"{form} {rows}" in doctor._crossover().detail for form, rows in measured().items())


def test_the_doctor_has_nothing_to_measure_without_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luhuo.kernels.native.library", lambda: None)
    with pytest.raises(LuhuoError):
        doctor.measure()
    assert not crossover.file().exists()


@pytest.mark.parametrize("text", ["no json", "[1]", '{"int4": "many", "int8": -1, "other": 5}'])
def test_a_file_with_anything_else_in_it_is_as_good_as_none(text: str) -> None:
    crossover.file().parent.mkdir(parents=True)
    crossover.file().write_text(text, encoding="utf-8")
    assert measured() == {} and most_rows("int4") == ROWS["int4"]


@pytest.mark.skipif(library() is None, reason="no C++ compiler here")
def test_both_ways_give_the_same_but_for_the_last_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack(*quantise(torch.randn(48, 64), 4, 32), bits=4, group=32)
    x = torch.randn(20, 64).bfloat16().float()
    unpacking = product(x, packed)
    monkeypatch.setattr("luhuo.kernels.low_bit.most_rows", lambda form: 0)
    torch.testing.assert_close(product(x, packed), unpacking, atol=1e-4, rtol=1e-4)
