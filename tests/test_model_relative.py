"""Buckets of distances are the reference's over long texts too, where a rounding error would move a border."""

from __future__ import annotations

import pytest
import torch
from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position
from transformers.models.t5.modeling_t5 import T5Attention

from luhuo.model.relative import deberta_rows, t5_buckets


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize(("buckets", "longest"), [(32, 128), (32, 256), (8, 12), (64, 1000), (320, 800)])
def test_t5_buckets_are_those_of_the_reference(buckets: int, longest: int, both_ways: bool) -> None:
    distance = torch.arange(-3000, 3001)
    expected = T5Attention._relative_position_bucket(distance, both_ways, buckets, longest)
    assert torch.equal(t5_buckets(distance, buckets, longest, both_ways=both_ways), expected)


@pytest.mark.parametrize(("buckets", "longest"), [(256, 512), (8, 128), (32, 64), (64, 2000)])
def test_deberta_buckets_are_those_of_the_reference(buckets: int, longest: int) -> None:
    time = 1100
    expected = build_relative_position(torch.zeros(time, 1), torch.zeros(time, 1), buckets, longest)[0]
    rows = deberta_rows(time, buckets, buckets, longest, torch.device("cpu"))
    assert torch.equal(rows, (expected + buckets).clamp(0, 2 * buckets - 1))


def test_without_buckets_distances_count_one_by_one_and_are_cut_off() -> None:
    rows = deberta_rows(9, 4, 0, 512, torch.device("cpu"))
    assert rows[4].tolist() == [7, 7, 6, 5, 4, 3, 2, 1, 0]
