"""New special tokens for a model that is to be fine-tuned, and a chat template for one that has none."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from luhuo.align.long_context import rebuilt
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.decoder import Decoder
from luhuo.tokenizer.chat import CHAT_TEMPLATE, TURN_END, TURN_START
from luhuo.tokenizer.extend import extend
from luhuo.tokenizer.tokenizer import Tokenizer


def with_tokens(model: Decoder, tokens: Sequence[str]) -> tuple[Decoder, list[int]]:
    """The model with `tokens` as special ones of its tokenizer, and the ids of those that are new to it.

    They take reserved places first, and rows that the tables have beyond the vocabulary; only then do the tables
    grow. Their rows, of the output as of the input, begin as the mean of the rows of ordinary tokens: a random row
    can be far longer than the others and take all the probability (Hewitt 2021). Raises `LuhuoError` for a model
    without a tokenizer or one that is kept in few bits.
    """
    before = _tokenizer(model)
    tokenizer = extend(before, tokens)
    new = sorted({tokenizer.token_id(token) for token in tokens if not _knows(before, token)})
    if not isinstance(model.embedding, nn.Parameter):
        raise LuhuoError(
            tr("Tokens cannot be added to embeddings that are kept in few bits.", "低位数的嵌入不能增加词元。"),
            fix=tr("Start from the model in full precision.", "请从全精度的模型开始。"),
            where="new_tokens",
        )
    rows = max(model.config.vocab_size, tokenizer.vocab_size)
    ordinary = [i for i in range(before.vocab_size) if i not in before.special_ids and i not in new]
    old = _tables(model)
    if rows > model.config.vocab_size:
        model = rebuilt(model, model.config.model_copy(update={"vocab_size": rows}))
    for name, table in old.items():
        owner, _, last = name.rpartition(".")
        grown = table.new_empty((rows, *table.shape[1:]))
        grown[: len(table)] = table
        grown[[*new, *range(len(table), rows)]] = table[ordinary].mean(0)
        setattr(model.get_submodule(owner), last, nn.Parameter(grown))
    model.tokenizer = tokenizer
    return model, new


def with_template(model: Decoder, template: str | None) -> Decoder:
    """The model with another chat template, or with ChatML and its tokens if `template` is None."""
    tokenizer = _tokenizer(model)
    tokenizer.chat_template = CHAT_TEMPLATE if template is None else template
    roles = {"eos_token": TURN_END} if template is None else {}
    if template is None:
        model, _ = with_tokens(model, (TURN_START, TURN_END))
    model.tokenizer = extend(_tokenizer(model), (), roles=roles)  # roles follow from the template
    return model


def _tables(model: Decoder) -> dict[str, Tensor]:
    """The parameters that have a row a token."""
    names = [name for name in ("embedding", "unembedding.weight", "head_bias") if _has(model, name)]
    return {name: model.get_parameter(name).detach() for name in names}


def _has(model: Decoder, name: str) -> bool:
    return name in dict(model.named_parameters())


def _knows(tokenizer: Tokenizer, token: str) -> bool:
    try:
        tokenizer.token_id(token)
    except LuhuoError:
        return False
    return True


def _tokenizer(model: Decoder) -> Tokenizer:
    if model.tokenizer is None:
        raise LuhuoError(tr("The model has no tokenizer.", "该模型没有分词器。"), expected="tokenizer.json")
    return model.tokenizer
