"""Shards and their loader: nothing lost, nothing mixed up, the same order for any number of ranks and after a stop."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.corpus.documents import SPLITS, read_documents
from luhuo.corpus.loader import PackedLoader
from luhuo.corpus.shards import ShardWriter, open_shards, read_header
from luhuo.corpus.stages import CorpusStage, ShardsStage
from luhuo.tokenizer.stages import TokenizerStage
from luhuo.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Corpus, tokenizer and shards of a small bilingual text."""
    root = tmp_path_factory.mktemp("shards")
    for lang, line in (("en", "The furnace number {} burns blue. "), ("zh", "第{}座炉子的火是蓝色的。")):
        rows = [json.dumps({"text": line.format(i) * (1 + i % 7)}) for i in range(120)]
        (root / f"{lang}.jsonl").write_text("\n".join(rows))
    sources = [{"name": s, "path": str(root / f"{s}.jsonl"), "valid": 0.05, "test": 0.05} for s in ("en", "zh")]
    produce("corpus", CorpusStage.parse({"sources": sources}), root / "text")
    tokenizer = {"corpus": str(root / "text"), "vocab_size": 400}
    produce("tokenizer", TokenizerStage.parse(tokenizer), root / "tokenizer")
    shards = {"corpus": str(root / "text"), "tokenizer": str(root / "tokenizer")}
    produce("shards", ShardsStage.parse(shards), root / "shards")
    return root


def epoch_stream(loader) -> list[int]:
    """All tokens of an epoch in order; rows overlap by one token."""
    stream: list[int] = []
    for batch in loader.epoch():
        for ids, segments in zip(batch["ids"], batch["segments"], strict=True):
            kept = ids[segments > 0].tolist()
            stream.extend(kept[1:] if stream else kept)
    return stream


def split_at(stream: list[int], end: int) -> list[tuple[int, ...]]:
    documents, current = [], []
    for token in stream:
        current.append(token)
        if token == end:
            documents.append(tuple(current))
            current = []
    assert not current
    return documents


@pytest.mark.parametrize("split", SPLITS)
def test_shards_hold_every_document_in_order_with_its_end(made, split):
    tokenizer = Tokenizer.load(made / "tokenizer")
    header = read_header(made / "shards" / split)
    documents = list(read_documents(made / "text", split))
    found = []
    for tokens, ends in open_shards(made / "shards" / split):
        found += [tokens[a:b].tolist() for a, b in itertools.pairwise([0, *ends.tolist()])]
    assert [tokenizer.decode(ids[:-1]) for ids in found] == [d["text"] for d in documents]
    assert all(ids[-1] == tokenizer.eos_id for ids in found)
    assert header["tokenizer"] == tokenizer.fingerprint
    assert header["dtype"] == "uint16"
    assert sum(s["bytes"] for s in header["sources"].values()) == sum(len(d["text"].encode()) for d in documents)
    assert header["tokens"] == sum(s["tokens"] for s in header["sources"].values()) == sum(map(len, found))


def test_full_shards_are_followed_by_new_ones(made, tmp_path):
    tokenizer = Tokenizer.load(made / "tokenizer")
    writer = ShardWriter(tmp_path / "small", tokenizer, shard_bytes=100)
    document = {"source": "a", "lang": "en", "text": "x"}
    written = [[i + 1] * 20 + [0] for i in range(10)]
    for ids in written:
        writer.add(document, ids)
    header = writer.close()
    assert len(header["shards"]) > 3
    loader = PackedLoader(tmp_path / "small", batch=2, length=16, seed=0)
    assert sorted(split_at(epoch_stream(loader), 0)) == sorted(map(tuple, written))


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (1, 7), (4, 32), (3, 5000)])
def test_an_epoch_holds_every_token_once_as_target(made, batch, length):
    loader = PackedLoader(made / "shards" / "valid", batch=batch, length=length, seed=3)
    expected = []
    for tokens, ends in open_shards(made / "shards" / "valid"):
        expected += [tuple(tokens[a:b].tolist()) for a, b in itertools.pairwise([0, *ends.tolist()])]
    for _ in range(2):
        assert sorted(split_at(epoch_stream(loader), 0)) == sorted(expected)


def test_segments_number_the_documents_of_a_row(made):
    loader = PackedLoader(made / "shards" / "train", batch=4, length=64, seed=3)
    for batch in loader.epoch():
        assert batch["ids"].shape == batch["segments"].shape == (4, 65)
        assert (batch["ids"].dtype, batch["segments"].dtype) == (np.int64, np.int32)
        for ids, segments in zip(batch["ids"], batch["segments"], strict=True):
            count = int((segments > 0).sum())
            ends = (ids[: count - 1] == 0).astype(int) if count else np.zeros(0)
            assert np.array_equal(np.diff(segments[:count]), ends)
            assert not count or segments[0] == 1
            assert not ids[count:].any()
            assert not segments[count:].any()


def test_each_epoch_has_its_own_order_and_each_seed_its_own(made):
    def order(seed):
        loader = PackedLoader(made / "shards" / "train", batch=4, length=64, seed=seed)
        return [epoch_stream(loader), epoch_stream(loader)]

    assert order(1) == order(1)
    first, second = order(1)
    assert first != second
    assert order(2)[0] != first


def test_the_global_order_is_the_same_for_any_number_of_ranks(made):
    def rows(world, batch, count):
        loaders = [
            iter(PackedLoader(made / "shards" / "train", batch=batch, length=48, seed=5, rank=r, world=world))
            for r in range(world)
        ]
        return [row for _ in range(count) for loader in loaders for row in next(loader)["ids"].tolist()]

    assert rows(1, 8, 20) == rows(2, 4, 20) == rows(4, 2, 20)


def test_a_loader_continues_exactly_where_it_was_stopped(made):
    def new():
        return PackedLoader(made / "shards" / "valid", batch=2, length=24, seed=5)

    whole = new()
    total = 2 * whole.batches_per_epoch + 3
    batches = list(itertools.islice(whole, total))
    for stop in range(total):
        loader = new()
        for _ in itertools.islice(loader, stop):
            pass
        state = json.loads(json.dumps(loader.state()))
        resumed = new()
        resumed.restore(state)
        after = next(iter(resumed))
        assert np.array_equal(after["ids"], batches[stop]["ids"])
        assert np.array_equal(after["segments"], batches[stop]["segments"])


def test_a_state_of_other_settings_is_refused(made):
    state = PackedLoader(made / "shards" / "train", batch=2, length=24, seed=5).state()
    with pytest.raises(LuhuoError):
        PackedLoader(made / "shards" / "train", batch=2, length=25, seed=5).restore(state)


def test_a_state_continues_on_another_number_of_ranks(made):
    one = PackedLoader(made / "shards" / "train", batch=4, length=24, seed=5)
    for _ in itertools.islice(one, 5):
        pass
    two = PackedLoader(made / "shards" / "train", batch=2, length=24, seed=5, rank=1, world=2)
    two.restore(one.state())
    assert np.array_equal(next(iter(two))["ids"], next(iter(one))["ids"][2:])


@pytest.mark.parametrize("suffix", ["bin", "idx"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_shard_is_one_clear_error(made, tmp_path, suffix, damage):
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in (made / "shards" / "train").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    file = folder / f"00000.{suffix}"
    data = bytearray(file.read_bytes())
    data[5] ^= 1
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(data if damage == "changed" else data[:-2])
    with pytest.raises(LuhuoError, match="damaged") as error:
        PackedLoader(folder, batch=1, length=8, seed=0)
    assert error.value.where == file


def test_weights_repeat_whole_sources_in_training_only(made, tmp_path):
    shards = {"corpus": str(made / "text"), "tokenizer": str(made / "tokenizer"), "weights": {"zh": 2.5}}
    out = produce("shards", ShardsStage.parse(shards), tmp_path / "weighted").path
    before, after = read_header(made / "shards" / "train")["sources"], read_header(out / "train")["sources"]
    assert after["en"] == before["en"]
    assert 2.2 < after["zh"]["documents"] / before["zh"]["documents"] < 2.8
    assert read_header(out / "test") == read_header(made / "shards" / "test")


def test_a_weight_for_a_source_that_is_not_there_names_the_nearest(made, tmp_path):
    shards = {"corpus": str(made / "text"), "tokenizer": str(made / "tokenizer"), "weights": {"zhh": 2.0}}
    with pytest.raises(LuhuoError) as error:
        produce("shards", ShardsStage.parse(shards), tmp_path / "weighted")
    assert "zh" in str(error.value.fix)


def test_an_empty_split_cannot_be_loaded(made, tmp_path):
    ShardWriter(tmp_path / "empty", Tokenizer.load(made / "tokenizer"), 100).close()
    with pytest.raises(LuhuoError, match="no text"):
        PackedLoader(tmp_path / "empty", batch=1, length=8, seed=0)
    with pytest.raises(LuhuoError, match="no shards"):
        PackedLoader(tmp_path, batch=1, length=8, seed=0)
