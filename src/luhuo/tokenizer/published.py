"""Opening the tokenizer of any published model directory, whatever files it comes as.

`tokenizer.json` counts where it exists. Otherwise the older files are converted: SentencePiece models, tiktoken ranks,
`tekken.json`, `vocab.json` with `merges.txt`, WordPiece `vocab.txt`.
"""

from __future__ import annotations

from pathlib import Path

import tokenizers
from tokenizers import AddedToken

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.tokenizer import bytelevel, sentencepiece, sentencepiece_layouts, tiktoken, wordpiece
from luhuo.tokenizer.framing import frame
from luhuo.tokenizer.guard import library_errors
from luhuo.tokenizer.patterns import RECIPES, Recipe
from luhuo.tokenizer.settings import ROLES, Settings

SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model", "ice_text.model")
FILES = ("tokenizer.json", "*.model", "*.tiktoken", "tekken.json", "vocab.json + merges.txt", "vocab.txt")


def open_core(folder: Path, settings: Settings) -> tokenizers.Tokenizer:
    """The `tokenizers` object with every added token and the frame (bos, eos) that the settings ask for.

    Raises `LuhuoError` if there is no tokenizer or it cannot be read.
    """
    core = _from_files(folder, settings)
    _add_tokens(core, settings, folder)
    _frame(core, settings)
    return core


def _from_files(folder: Path, settings: Settings) -> tokenizers.Tokenizer:
    file = folder / "tokenizer.json"
    if file.is_file():
        problem = tr("The tokenizer cannot be read.", "无法读取分词器。")
        with library_errors(lambda error: LuhuoError(problem, found=error, where=file)):
            return tokenizers.Tokenizer.from_file(str(file))
    if (file := folder / "tekken.json").is_file():
        return tiktoken.from_tekken(file)
    for name in SENTENCEPIECE:
        file = folder / name
        if file.is_file():
            if tiktoken.is_ranks(file):
                return tiktoken.load(file, settings)
            return sentencepiece_layouts.build(sentencepiece.read(file), settings)
    for file in sorted(folder.glob("*.tiktoken")):
        return tiktoken.load(file, settings)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        vocab, merges = bytelevel.read_vocab_and_merges(folder)
        return bytelevel.build(vocab, merges, _gpt2_recipe(settings), where=folder)
    if (file := folder / "vocab.txt").is_file():
        if settings.kind.startswith("CpmBee"):
            raise _no_word_pieces(file)
        return wordpiece.build(wordpiece.read_vocab(file), settings.config, file)
    raise LuhuoError(tr("There is no tokenizer here.", "这里没有分词器。"), expected=", ".join(FILES), where=folder)


def _no_word_pieces(file: Path) -> LuhuoError:
    """CPM-Bee's `vocab.txt` looks like WordPiece's, but numbers the words it lacks from text to text."""
    return LuhuoError(
        tr("CPM-Bee's tokenizer is not supported.", "不支持 CPM-Bee 的分词器。"),
        where=file,
        fix=tr(
            "Move vocab.txt out of the folder: the model then opens without a tokenizer and takes token ids.",
            "请将 vocab.txt 移出该目录：模型即可不带分词器打开，直接使用词元编号。",
        ),
    )


def _gpt2_recipe(settings: Settings) -> Recipe:
    """Qwen 2 and its heirs publish the same two files as GPT-2, with another way of cutting."""
    if settings.kind.startswith("Qwen") or str(settings.model.get("model_type", "")).startswith("qwen"):
        return RECIPES["qwen2"]
    return RECIPES["gpt-2"]


def _add_tokens(core: tokenizers.Tokenizer, settings: Settings, folder: Path) -> None:
    """Add what `tokenizer_config.json` and its kin name and the vocabulary lacks; make the named roles special."""
    named = {settings.config.get(role) for role in ROLES}
    present = {token.content: token for token in core.get_added_tokens_decoder().values()}
    for token in settings.added:
        known = core.token_to_id(token.text)
        if known is None and token.number is None:
            continue  # a name without a place in the vocabulary: the model has no embedding for it
        if token.text not in present:
            special = token.special or token.text in named
            flags = {"lstrip": token.lstrip, "rstrip": token.rstrip, "single_word": token.single_word}
            added = AddedToken(token.text, special=special, normalized=token.normalized and not special, **flags)
            core.add_special_tokens([added]) if special else core.add_tokens([added])
        if token.number is not None and core.token_to_id(token.text) != token.number:
            raise LuhuoError(
                tr("An added token has another id than its file says.", "新增词元的编号与文件所述不同。"),
                expected=f"{token.text}: {token.number}",
                found=core.token_to_id(token.text),
                where=folder,
                fix=tr("Download all tokenizer files again.", "请重新下载全部分词器文件。"),
            )
    special = [
        present.get(t) or AddedToken(t, normalized=False) for t in named if t and core.token_to_id(t) is not None
    ]
    for token in sorted(special, key=lambda t: t.content):
        if not (token.content in present and token.special):
            core.add_special_tokens([token])


def _frame(core: tokenizers.Tokenizer, settings: Settings) -> None:
    """`add_bos_token` and `add_eos_token` in the settings overrule what the vocabulary file says."""
    config = settings.config
    if "add_bos_token" not in config and "add_eos_token" not in config:
        return
    before = [config.get("bos_token")] if config.get("add_bos_token") else []
    after = [config.get("eos_token")] if config.get("add_eos_token") else []
    frame(core, [t for t in before if t], [t for t in after if t])
