"""How model families number and frame the pieces of their SentencePiece file.

Most use the file's own ids. T5 adds sentinels behind, the fairseq heirs (XLM-R, mBART) shift every id by one, ALBERT
and DeBERTa clean the text first, ChatGLM adds its roles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import tokenizers
from tokenizers import normalizers

from luhuo.tokenizer import sentencepiece
from luhuo.tokenizer.framing import frame
from luhuo.tokenizer.sentencepiece import BPE, CONTROL, UNKNOWN, Model, Piece
from luhuo.tokenizer.settings import Settings

MBART_LANGUAGES = (
    "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM ne_NP "
    "nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN"
)
CHATGLM = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")
CHATGLM3 = (*CHATGLM, "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
WITHOUT_BOS = ("Baichuan", "Yi", "XLNet", "Pegasus", "BigBird", "Rembert", "Camembert")
"""Families whose tokenizer puts nothing before a text unless the settings say so."""


def build(model: Model, settings: Settings) -> tokenizers.Tokenizer:
    """The `tokenizers` object of the family that the settings name; the file's own ids for every other."""
    kind, name = settings.kind, str(settings.model.get("model_type", ""))
    if kind.startswith(("T5", "MT5")) or (not kind and name in ("t5", "mt5", "umt5")):
        return _t5(model, settings)
    if kind.startswith("XLMRoberta") or (not kind and name.startswith("xlm-roberta")):
        return _fairseq(model, [], ["<s>"], ["</s>"])
    if kind.startswith("MBartTokenizer"):
        return _fairseq(model, MBART_LANGUAGES.split(), [], ["</s>", str(settings.config.get("src_lang") or "en_XX")])
    if kind.startswith("Albert") or (not kind and name == "albert"):
        return _albert(model, settings)
    if kind.startswith("DebertaV2") or (not kind and name == "deberta-v2"):
        return _deberta(model, settings)
    if kind.startswith("ChatGLM") or name == "chatglm":
        return _chatglm(model, settings)
    core = sentencepiece.build(model)
    _default_frame(core, model, settings)
    return core


def _default_frame(core: tokenizers.Tokenizer, model: Model, settings: Settings) -> None:
    """BPE models of this layout start a text with bos, Unigram ones end it with eos, where the settings are silent."""
    bos, eos = model.piece(model.bos_id), model.piece(model.eos_id)
    if model.algorithm == BPE and bos and not settings.kind.startswith(WITHOUT_BOS):
        frame(core, [bos], [])
    elif model.algorithm != BPE and eos and not settings.kind.startswith(WITHOUT_BOS):
        frame(core, [], [eos])


def _t5(model: Model, settings: Settings) -> tokenizers.Tokenizer:
    """Sentinels `<extra_id_99>` … `<extra_id_0>` follow the pieces (Raffel et al. 2020, section 3.1.4)."""
    count = int(settings.config.get("extra_ids", 100))
    known = {piece.text for piece in model.pieces}
    sentinels = [Piece(f"<extra_id_{i}>", 0.0, CONTROL) for i in range(count - 1, -1, -1)]
    core = sentencepiece.build(replace(model, pieces=(*model.pieces, *(s for s in sentinels if s.text not in known))))
    frame(core, [], [model.piece(model.eos_id) or "</s>"])
    return core


def _fairseq(model: Model, languages: Sequence[str], before: list[str], after: list[str]) -> tokenizers.Tokenizer:
    """fairseq's numbering: four tokens of its own, the file's pieces from the fourth on, languages, `<mask>`."""
    own = [Piece(t, 0.0, UNKNOWN if t == "<unk>" else CONTROL) for t in ("<s>", "<pad>", "</s>", "<unk>")]
    behind = [Piece(t, 0.0, CONTROL) for t in (*languages, "<mask>")]
    core = sentencepiece.build(replace(model, pieces=(*own, *model.pieces[3:], *behind), unk_id=3))
    frame(core, before, after)
    return core


def _albert(model: Model, settings: Settings) -> tokenizers.Tokenizer:
    """Quotes, accents and case are levelled first; pieces ending in digit and comma are avoided (Lan et al. 2020)."""
    steps: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not settings.config.get("keep_accents", False):
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if settings.config.get("do_lower_case", True):
        steps.append(normalizers.Lowercase())
    pieces = tuple(replace(p, score=p.score - 100) if _number_and_comma(p.text) else p for p in model.pieces)
    return _cleaned(replace(model, pieces=pieces), steps)


def _number_and_comma(text: str) -> bool:
    return len(text) >= 2 and text[-1] == "," and text[-2].isdigit()


def _deberta(model: Model, settings: Settings) -> tokenizers.Tokenizer:
    """`[MASK]` follows the pieces (He et al. 2021)."""
    steps: list[Any] = [normalizers.Lowercase()] if settings.config.get("do_lower_case", False) else []
    if all(piece.text != "[MASK]" for piece in model.pieces):
        model = replace(model, pieces=(*model.pieces, Piece("[MASK]", 0.0, CONTROL)))
    return _cleaned(model, steps)


def _cleaned(model: Model, steps: list[Any]) -> tokenizers.Tokenizer:
    core = sentencepiece.build(model)
    after = sentencepiece.normalizer(model)
    core.normalizer = normalizers.Sequence([*steps, *([after] if after is not None else [])])
    frame(core, ["[CLS]"], ["[SEP]"])
    return core


def _chatglm(model: Model, settings: Settings) -> tokenizers.Tokenizer:
    """Roles follow the pieces: five in ChatGLM 2, nine in ChatGLM 3. A text starts with `[gMASK]sop`."""
    size = int(settings.model.get("padded_vocab_size") or 0)
    version3 = any(token.text == "<|user|>" for token in settings.added) or "<|observation|>" in str(settings.template)
    named = CHATGLM3 if version3 else CHATGLM
    known = {piece.text for piece in model.pieces}
    pieces = (*model.pieces, *(Piece(t, 0.0, CONTROL) for t in named if t not in known))
    if size and len(pieces) > size:
        pieces = pieces[:size]
    core = sentencepiece.build(replace(model, pieces=pieces))
    frame(core, ["[gMASK]", "sop"], [])
    return core
