"""Log-probabilities of tokens and sequences: the plain computation's values and gradients, in less memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from luhuo.align.log_probs import by_rows, sequence_counts, sequence_sums, token_log_probs
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.train.objective import Batch, CausalLM
from tests.test_model_decoder import CONFIG

VOCAB = CONFIG.vocab_size


def random_model(**changes: object) -> Decoder:
    model = initialise(Decoder(CONFIG.model_copy(update=changes)), 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return model


def random_batch(rows: int = 3, length: int = 40, seed: int = 0) -> Batch:
    chance = np.random.default_rng(seed)
    segments = np.sort(chance.integers(1, 5, (rows, length + 1)), 1)
    segments[:, -4:] = 0
    return {
        "ids": torch.from_numpy(chance.integers(0, VOCAB, (rows, length + 1))),
        "segments": torch.from_numpy(segments.astype(np.int32)),
        "mask": torch.from_numpy(chance.integers(0, 2, (rows, length + 1)).astype(np.int32)),
    }


def plainly(model: Decoder, batch: Batch, temperature: float = 1.0) -> Tensor:
    logits = model(batch["ids"][:, :-1], segments=batch["segments"][:, :-1]).float() / temperature
    found = logits.log_softmax(-1).gather(-1, batch["ids"][:, 1:, None])[..., 0]
    return torch.where(CausalLM.targets(batch), found, 0.0)


def gradients(model: Decoder, values: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    weights = torch.randn(values.shape, generator=torch.Generator().manual_seed(2))
    (values * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": False}, {"logit_softcap": 5.0}, {"head_bias": True}])
def test_values_and_gradients_are_those_of_the_whole_softmax(changes: dict[str, object], temperature: float) -> None:
    model, batch = random_model(**changes), random_batch()
    wanted, found = plainly(model, batch, temperature), token_log_probs(model, batch, temperature=temperature)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    expected, actual = gradients(model, wanted), gradients(model, found)
    assert expected.keys() == actual.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_with_a_frozen_output_matrix_the_states_get_the_same_gradient() -> None:
    model, batch = random_model(tie_embeddings=False), random_batch()
    assert model.unembedding is not None
    whole = gradients(model, token_log_probs(model, batch))
    model.unembedding.requires_grad_(False)
    model.zero_grad(set_to_none=True)
    frozen = gradients(model, token_log_probs(model, batch))
    assert whole.keys() - frozen.keys() == {"unembedding.weight"}
    for name, gradient in frozen.items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-4, atol=1e-6, msg=name)


def test_scoring_again_gives_the_same_bits_with_gradient_entropy_or_neither() -> None:
    for dtype in (None, torch.bfloat16):
        model, batch = random_model().compute_in(dtype), random_batch()
        kept = token_log_probs(model, batch).detach()
        with torch.no_grad():
            assert torch.equal(kept, token_log_probs(model, batch))
            assert torch.equal(kept, token_log_probs(model, batch, with_entropy=True)[0])


def test_in_bf16_values_and_gradients_stay_near_those_of_fp32() -> None:
    model, batch = random_model(), random_batch()
    exact = token_log_probs(model, batch)
    expected = gradients(model, exact)
    model.compute_in(torch.bfloat16)
    rough = token_log_probs(model, batch)
    assert rough.dtype == torch.float32 and (rough - exact).abs().max() < 0.1
    actual = gradients(model, rough)
    for name, gradient in expected.items():
        assert torch.nn.functional.cosine_similarity(actual[name].flatten(), gradient.flatten(), dim=0) > 0.99, name


def test_entropy_is_that_of_the_distribution_and_has_no_gradient() -> None:
    model, batch = random_model(), random_batch()
    logits = model(batch["ids"][:, :-1], segments=batch["segments"][:, :-1]) / 0.8
    wanted = torch.distributions.Categorical(logits=logits).entropy() * CausalLM.targets(batch)
    found = token_log_probs(model, batch, temperature=0.8, with_entropy=True)[1]
    assert not found.requires_grad
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-5, atol=1e-5)


def test_a_batch_without_targets_gives_zeros_and_zero_gradients() -> None:
    model, batch = random_model(), random_batch()
    batch["mask"].zero_()
    values = token_log_probs(model, batch)
    assert not values.any()
    assert all(not gradient.any() for gradient in gradients(model, values).values())


def test_sequence_sums_are_by_segment_wherever_the_padding_lies() -> None:
    model = random_model()
    text = torch.tensor([5, 6, 7, 8, 9])
    ids, segments = torch.zeros(3, 16, dtype=torch.long), torch.zeros(3, 16, dtype=torch.int32)
    for row, (start, number) in enumerate([(0, 1), (11, 1), (4, 2)]):
        ids[row, start : start + 5], segments[row, start : start + 5] = text, number
    batch = {"ids": ids, "segments": segments}
    sums = sequence_sums(token_log_probs(model, batch), batch)
    assert sums.shape == (3, 2)
    torch.testing.assert_close(sums[[0, 1, 2], [0, 0, 1]], sums[0, 0].expand(3), rtol=1e-5, atol=1e-5)
    assert sequence_counts(batch).tolist() == [[4, 0], [4, 0], [0, 4]]


def test_without_segments_a_row_is_one_sequence() -> None:
    batch = {"ids": torch.arange(1, 9).view(2, 4)}
    values = torch.ones(2, 3)
    assert sequence_sums(values, batch).tolist() == [[3], [3]]


def test_rows_are_passed_in_parts_that_together_are_the_batch() -> None:
    batch = random_batch(rows=500, length=60)
    parts = list(by_rows(batch, torch.device("cpu")))
    assert len(parts) > 1
    assert all(torch.equal(torch.cat([part[name] for part in parts]), value) for name, value in batch.items())


def test_a_token_outside_the_vocabulary_is_an_error_and_no_wild_read() -> None:
    model, batch = random_model(), random_batch()
    batch["ids"][0, -6] = VOCAB + 3
    batch["segments"][:] = 1
    batch["mask"][:] = 1
    with pytest.raises((IndexError, RuntimeError)):
        token_log_probs(model.compute_in(torch.bfloat16), batch)
