"""Records: the prompt sees itself both ways, relations follow the tree, and a cache notices a prompt that goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from luhuo.core.errors import LuhuoError
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.model.cache import KVCache
from luhuo.model.config import ModelConfig, RecordConfig
from luhuo.model.count import cache_per_token, parameters
from luhuo.model.decoder import Decoder
from luhuo.model.families import read_config, write_config
from luhuo.model.load import load
from luhuo.model.records import read_segments, relation_rows
from tests.family_checks import difference, publish, reference
from tests.newer_cases import BEE, NEWER, PRUNED

BEGIN, END, ROOT, ANSWER = 6, 7, 8, 9
RECORD = RecordConfig(begin_id=BEGIN, answer_id=ANSWER, buckets=16, relations=24, longest=20)
PROMPT = [BEGIN, ROOT, END, BEGIN, 20, END, BEGIN, 21, 22, 23, END, BEGIN, ANSWER, END]
"""{"20": "21 22 23", "<ans>": …}"""
WHOLE = [*PROMPT, BEGIN, 24, 25, END]


def model(**changes: object) -> Decoder:
    torch.manual_seed(0)
    values = {**BEE, "architectures": ["CpmBeeForCausalLM"], "bos_token_id": BEGIN, "ans_token_id": ANSWER, **changes}
    found = Decoder(read_config(values))
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.normal_()
    return found.eval()


def row(*ids: int) -> Tensor:
    return torch.tensor([ids])


def test_segments_open_with_their_token_and_the_prompt_ends_with_the_name_of_the_answer() -> None:
    number, prompt = read_segments(row(*WHOLE), None, RECORD)
    assert number[0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4]
    assert prompt[0].tolist() == [True] * len(PROMPT) + [False] * 4


def test_documents_of_one_row_are_read_each_for_itself() -> None:
    ids = row(*WHOLE, *PROMPT[:6], *WHOLE)
    documents = torch.tensor([[1] * len(WHOLE) + [2] * 6 + [3] * len(WHOLE)])
    number, prompt = read_segments(ids, documents, RECORD)
    alone = read_segments(row(*WHOLE), None, RECORD)
    assert torch.equal(number[:, :18], alone[0]) and torch.equal(number[:, -18:], alone[0])
    assert torch.equal(prompt[:, :18], alone[1]) and torch.equal(prompt[:, -18:], alone[1])
    assert number[0, 18:24].tolist() == [0, 0, 0, 1, 1, 1]
    assert not prompt[0, 18:24].any()


@torch.no_grad()
def test_a_record_of_three_entries_has_the_logits_of_the_reference(tmp_path: Path) -> None:
    case = NEWER["cpm-bee-pruned"]
    theirs = reference(case)
    publish(case, theirs, tmp_path)
    begin, answer = BEE["bos_token_id"], BEE["ans_token_id"]
    entries = [[8], [20, 21], [22, 23, 24, 25], [26], list(range(27, 52)), [answer], [30, 31, 32]]
    ids = row(*(token for entry in entries for token in (begin, *entry, END)))
    expected = theirs(ids).logits
    assert difference(load(tmp_path, dtype="fp32", device="cpu")(ids), expected) < 1e-4
    assert expected.abs().max() > 0.1


def test_text_in_front_of_the_first_segment_is_a_segment() -> None:
    number, prompt = read_segments(row(30, 31, BEGIN, 32, BEGIN, 33), None, RECORD)
    assert number[0].tolist() == [0, 0, 1, 1, 2, 2]
    assert not prompt.any()


@pytest.mark.parametrize(
    ("asking", "seen", "up", "down"),
    [(0, 1, 0, 1), (1, 0, 1, 0), (0, 2, 0, 2), (1, 2, 0, 1), (2, 1, 1, 0), (1, 3, 1, 1), (4, 1, 2, 1), (4, 2, 2, 2)],
)
def test_relations_count_the_steps_up_and_down_between_segments(asking: int, seen: int, up: int, down: int) -> None:
    number = torch.tensor([[asking, seen]])
    rows = relation_rows(number, torch.tensor([[0]]), RECORD)
    assert rows[0, 0, 1] == RECORD.buckets + 8 * up + down


def test_a_later_word_of_the_prompt_reaches_earlier_ones_and_a_word_of_the_answer_does_not() -> None:
    ours = model()
    ids, other_prompt, other_answer = row(*WHOLE), row(*WHOLE), row(*WHOLE)
    other_prompt[0, 9], other_answer[0, 16] = 33, 33
    with torch.no_grad():
        plain, prompt, answer = ours(ids), ours(other_prompt), ours(other_answer)
    assert (plain[0, 0] - prompt[0, 0]).abs().max() > 1e-3
    assert torch.allclose(plain[:, :16], answer[:, :16], atol=1e-5)


@pytest.mark.parametrize("cuts", [[14], [14, 15, 16, 17], [5, 9], [13], [12, 13], [8, 14, 15], list(range(1, 18))])
def test_a_text_read_in_pieces_ends_with_the_logits_of_the_whole(cuts: list[int]) -> None:
    ours, ids = model(mask_modules=PRUNED), row(*WHOLE)
    cache = KVCache(ours.config, 1, 4)
    with torch.no_grad():
        pieces = ids.tensor_split(cuts, 1)
        last = [ours(piece, cache=cache) for piece in pieces][-1]
        assert torch.allclose(last, ours(ids)[:, -last.shape[1] :], atol=1e-4)


def test_rows_of_which_only_one_is_still_in_its_prompt_go_on_together() -> None:
    ours = model()
    first, second = WHOLE[:16], [*PROMPT[:6], *PROMPT[6:10]]
    cache = KVCache(ours.config, 2, 4)
    ids = torch.tensor([first, [*second, *[0] * 6]])
    real = torch.arange(16)[None] < torch.tensor([[16], [10]])
    following = torch.tensor([[25, END], PROMPT[10:12]])
    with torch.no_grad():
        ours(ids, segments=real.int(), cache=cache)
        found = ours(following, cache=cache)
        last = ours(torch.tensor([[26, 27], PROMPT[12:]]), cache=cache)
        for index, whole in enumerate(([*first, 25, END], [*second, *PROMPT[10:12]])):
            assert torch.allclose(found[index], ours(row(*whole))[0, -2:], atol=1e-4)
        for index, whole in enumerate(([*first, 25, END, 26, 27], PROMPT)):
            assert torch.allclose(last[index], ours(row(*whole))[0, -2:], atol=1e-4)


@torch.no_grad()
def test_the_engine_answers_prompts_side_by_side_as_whole_passes_do() -> None:
    ours, prompts = model(mask_modules=PRUNED), [PROMPT, [*PROMPT, BEGIN], PROMPT[:11]]
    for prompt, found in zip(
        prompts, Engine(ours).generate(prompts, Sampling(temperature=0, max_tokens=6)), strict=True
    ):
        ids = list(prompt)
        while len(ids) < len(prompt) + 6 and (len(ids) == len(prompt) or ids[-1] != END):
            ids.append(int(ours(row(*ids))[0, -1].argmax()))
        assert found.token_ids == ids[len(prompt) :]


def test_the_table_of_biases_learns() -> None:
    ours = model().train()
    ours(row(*WHOLE)).square().mean().backward()
    assert ours.relation_bias is not None and ours.relation_bias.grad is not None
    touched = ours.relation_bias.grad.abs().sum(1) > 0
    assert touched[: RECORD.buckets].any() and touched[RECORD.buckets :].any()


def test_bf16_computes_what_fp32_does_nearly() -> None:
    ours = model()
    with torch.no_grad():
        exact = ours(row(*WHOLE))
        near = ours.compute_in(torch.bfloat16)(row(*WHOLE)).float()
    assert (exact - near).abs().mean() < 0.05 * exact.abs().mean()


@pytest.mark.parametrize("pruned", [None, PRUNED])
def test_counts_are_those_of_the_model(pruned: list[list[bool]] | None) -> None:
    ours = model(mask_modules=pruned)
    assert sum(parameters(ours.config).values()) == sum(p.numel() for p in ours.parameters())
    layers = 4 if pruned is None else 2
    assert cache_per_token(ours.config) == layers * 2 * 4 * 12


def test_a_config_survives_writing_and_reading() -> None:
    config = model(mask_modules=PRUNED).config
    written = write_config(config, torch.float32)
    assert read_config(written) == config
    assert written["mask_modules"] == PRUNED
    assert written["model_type"] == "cpmbee"


def test_tokens_of_the_published_vocabulary_are_assumed_where_the_config_names_none() -> None:
    values = {key: value for key, value in BEE.items() if not key.endswith("_token_id")}
    config = read_config({**values, "architectures": ["CpmBeeForCausalLM"]})
    assert isinstance(config, ModelConfig) and config.record is not None
    assert (config.record.begin_id, config.record.answer_id, config.stop_ids, config.pad_id) == (6, 9, (7,), 0)


def test_the_published_vocabulary_is_not_taken_for_word_pieces(tmp_path: Path) -> None:
    case = NEWER["cpm-bee"]
    publish(case, reference(case), tmp_path)
    (tmp_path / "vocab.txt").write_text("<pad>\n<unk>\n<s>\n</s>\n一\n", encoding="utf-8")
    settings = {"tokenizer_class": "CpmBeeTokenizer", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(LuhuoError, match=r"CPM-Bee"):
        load(tmp_path, dtype="fp32", device="cpu")
    (tmp_path / "vocab.txt").unlink()
    assert load(tmp_path, dtype="fp32", device="cpu").tokenizer is None


@pytest.mark.parametrize(
    "change",
    [
        {"distance_scale": 8},
        {"int4": True},
        {"mask_modules": PRUNED[:2]},
        {"mask_modules": [[True]] * 4},
        {"position_bias_num_segment_buckets": 4},
        {"position_bias_max_distance": 3},
    ],
)
def test_variants_that_are_not_computed_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(LuhuoError):
        model(**change)
