"""Vocabulary trimming: which tokens texts use, and a model with these alone.

A vocabulary made for a hundred languages serves one of them with a tenth of its tokens, and in a small model the
embedding is most of the weights (Abdaoui et al. 2020, "Load What You Need: Smaller Versions of Multilingual BERT").
Rows of the embedding and of the output matrix are taken as they are, so logits of kept tokens do not change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import tee
from typing import TYPE_CHECKING, Any

from torch import nn

from luhuo.align.long_context import rebuilt
from luhuo.compress.opened import open_stored
from luhuo.compress.texts import Sample, encoded, read_samples
from luhuo.core.atomic import write_json
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.dialogue.conversation import Conversation
from luhuo.dialogue.render import render
from luhuo.dialogue.template import literals
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.save import save
from luhuo.tokenizer.subset import Closure, subset
from luhuo.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from luhuo.compress.vocabulary_stage import TrimVocabularyStage
    from luhuo.core.artifact import Workspace

REPORT = "vocabulary.json"
ROLES = ("system", "user", "assistant", "tool")
GREETING = Conversation.of([{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}])
"""What is rendered to see which tokens a chat template writes."""
TABLES = ("embedding", "unembedding.weight", "head_bias")
"""Parameters of a decoder with a row for each token."""


@dataclass
class Efficiency:
    """How texts of one language are written before and after."""

    texts: int = 0
    characters: int = 0
    before: int = 0
    """Tokens before, as `after` those after."""
    after: int = 0
    unchanged: int = 0
    """Texts with the very same tokens as before."""
    unknown_before: int = 0
    unknown_after: int = 0

    def ratios(self) -> dict[str, float]:
        """Tokens per character before and after, and the share of unchanged texts."""
        characters = max(self.characters, 1)
        return {
            "tokens_per_character_before": self.before / characters,
            "tokens_per_character_after": self.after / characters,
            "unchanged_share": self.unchanged / max(self.texts, 1),
        }


def count(samples: Iterable[Sample], tokenizer: Tokenizer) -> Counter[int]:
    """How often texts use each token."""
    counts: Counter[int] = Counter()
    for _, ids in encoded(samples, tokenizer):
        counts.update(ids)
    return counts


def choose(
    counts: Mapping[int, int],
    tokenizer: Tokenizer,
    *,
    needed: Iterable[int] = (),
    coverage: float = 1.0,
    min_count: int = 1,
    size: int | None = None,
) -> set[int]:
    """The ids to keep: the most frequent ones until they cover this share of all occurrences, seen `min_count` times
    at least, with everything they are made of, added tokens, and what any text can be written with; at most `size`.

    `needed` are kept in any case. Raises `LuhuoError` if that and the smallest tokens are more than `size`.
    """
    closure = Closure(tokenizer)
    kept = closure.all_of(needed)
    if size is not None and len(kept) > size:
        raise LuhuoError(
            tr("So few tokens cannot write every text.", "这么少的词元无法写出所有文本。"),
            expected=f"≥ {len(kept)}",
            found=size,
            where="size",
            fix=tr("Raise size.", "请增大 size。"),
        )
    total, covered = sum(counts.values()), 0
    for number, seen in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if covered >= coverage * total or seen < min_count:
            break
        wanted = kept.union(closure.of(number))
        if size is not None and len(wanted) > size:
            break
        kept, covered = wanted, covered + seen
    return kept


def template_ids(tokenizer: Tokenizer) -> set[int]:
    """The ids of what a chat template writes itself."""
    template = tokenizer.chat_template
    if template is None:
        return set()
    pieces = [*literals(template).split("\0"), *ROLES]
    forms = [form for piece in pieces for form in (piece, piece + "\n", "\n" + piece)]
    return {i for ids in tokenizer.encode_batch(forms, special=True) for i in ids} | set(_rendered(tokenizer))


def _rendered(tokenizer: Tokenizer) -> list[int]:
    try:
        return render(GREETING, tokenizer).ids
    except LuhuoError:  # a template for something else than a chat; its words are kept all the same
        return []


def trim(model: Decoder, kept: Iterable[int]) -> tuple[Decoder, list[int]]:
    """A decoder with the tokens `kept` only (see `Closure`), and their former ids in the new order.

    Raises `LuhuoError` for a model without a tokenizer or with tables in few bits.
    """
    tokenizer = tokenizer_of(model)
    tables = {name: part.detach() for name, part in model.named_parameters() if name in TABLES}
    if "embedding" not in tables:
        raise LuhuoError(
            tr("The embedding is kept in few bits.", "嵌入以低位数保存。"),
            fix=tr("Trim the vocabulary first, and quantise the result.", "请先裁剪词表，再量化其结果。"),
        )
    smaller, order = subset(tokenizer, set(kept) | config_ids(model.config))
    if max(order) >= model.config.vocab_size:
        raise LuhuoError(
            tr("The tokenizer has more tokens than the model has rows.", "分词器的词元多于模型的行数。"),
            expected=f"≤ {model.config.vocab_size}",
            found=max(order) + 1,
            fix=tr("Use the tokenizer this model was made with.", "请使用与该模型配套的分词器。"),
        )
    changed = rebuilt(model, renumbered(model.config, order))
    for name, table in tables.items():
        owner, _, last = name.rpartition(".")
        setattr(changed.get_submodule(owner), last, nn.Parameter(table[order]))
    changed.tokenizer = smaller
    return changed, order


def tokenizer_of(model: Decoder) -> Tokenizer:
    """A model's tokenizer. Raises `LuhuoError` without one."""
    if model.tokenizer is None:
        raise LuhuoError(tr("The model has no tokenizer.", "该模型没有分词器。"), expected="tokenizer.json")
    return model.tokenizer


def config_ids(config: ModelConfig) -> set[int]:
    """The ids that a config names, as far as they are any token's: models name some beyond their vocabulary."""
    record = [] if config.record is None else [config.record.begin_id, config.record.answer_id]
    named = [*config.stop_ids, *config.gap_ids, config.pad_id, config.bos_id, config.prefix_end, *record]
    return {number for number in named if number is not None and number < config.vocab_size}


def renumbered(config: ModelConfig, order: list[int]) -> ModelConfig:
    """The config of the model with the tokens `order` only."""
    new = {old: number for number, old in enumerate(order)}
    changes: dict[str, Any] = {"vocab_size": len(order)}
    for name in ("stop_ids", "gap_ids"):
        changes[name] = tuple(new[number] for number in getattr(config, name) if number in new)
    for name in ("pad_id", "bos_id", "prefix_end"):
        changes[name] = new.get(getattr(config, name))
    if config.record is not None:
        ids = {name: new[getattr(config.record, name)] for name in ("begin_id", "answer_id")}
        changes["record"] = config.record.model_copy(update=ids)
    return config.model_copy(update=changes)


def compare(samples: Iterable[Sample], before: Tokenizer, after: Tokenizer, order: list[int]) -> dict[str, Efficiency]:
    """By language, how texts are written with either tokenizer; `order`: the former ids of the new tokens."""
    found: dict[str, Efficiency] = {}
    first, second = tee(samples)
    pairs = zip(encoded(first, before), encoded(second, after), strict=True)
    for (sample, old), (_, new) in pairs:
        row = found.setdefault(sample.lang, Efficiency())
        row.texts += 1
        row.characters += len(sample.text)
        row.before += len(old)
        row.after += len(new)
        row.unchanged += [order[number] for number in new] == old
        row.unknown_before += 0 if before.unk_id is None else old.count(before.unk_id)
        row.unknown_after += 0 if after.unk_id is None else new.count(after.unk_id)
    return dict(sorted(found.items(), key=lambda item: (-item[1].characters, item[0])))


def trim_stage(stage: TrimVocabularyStage, out: Workspace) -> None:
    """What the stage `trim-vocabulary` does."""
    model, stored = open_stored(stage.model)
    tokenizer = tokenizer_of(model)

    def samples(inputs: Iterable[str]) -> Iterator[Sample]:
        return (one for path in inputs for one in read_samples(path, tokenizer, stage.texts))

    counts = count(samples(stage.data), tokenizer)
    needed = template_ids(tokenizer) | config_ids(model.config)
    kept = choose(
        counts, tokenizer, needed=needed, coverage=stage.coverage, min_count=stage.min_count, size=stage.size
    )
    sizes = {"rows_before": model.config.vocab_size, "parameters_before": _parameters(model)}
    smaller, order = trim(model, kept)
    sizes |= {"rows_after": len(order), "parameters_after": _parameters(smaller)}
    save(smaller, out.path, dtype=stored)
    measured = compare(samples(stage.test or stage.data), tokenizer, tokenizer_of(smaller), order)
    languages = {lang: asdict(row) | row.ratios() for lang, row in measured.items()}
    write_json(out.path / REPORT, sizes | {"languages": languages, "former_ids": order}, indent=None)
    out.results |= sizes
    for lang, row in measured.items():
        out.results |= {f"{name}.{lang}": value for name, value in row.ratios().items()}
    say(_summary(sizes, measured))


def _parameters(model: Decoder) -> int:
    return sum(part.numel() for part in model.parameters())


def _summary(sizes: Mapping[str, int], measured: Mapping[str, Efficiency]) -> str:
    """What became of the vocabulary, and of each language, in a few lines."""
    gone = 1 - sizes["parameters_after"] / sizes["parameters_before"]
    before, after = f"{sizes['rows_before']:,}", f"{sizes['rows_after']:,}"
    lines = [
        tr(
            f"{before} tokens became {after}; {gone:.1%} of the parameters are gone.",
            f"词元由 {before} 减至 {after}；参数减少 {gone:.1%}。",
        )
    ]
    for lang, row in measured.items():
        ratio = {name: f"{value:.3f}" for name, value in row.ratios().items()}
        old, new = ratio["tokens_per_character_before"], ratio["tokens_per_character_after"]
        share = f"{row.ratios()['unchanged_share']:.1%}"
        lines.append(
            tr(
                f"{lang}: {old} tokens a character became {new}; {share} of the texts are unchanged",
                f"{lang}：每字符词元数由 {old} 变为 {new}；{share} 的文本不变",
            )
        )
    return "\n".join(lines)
