"""How published byte-level tokenizers cut text before they merge: normaliser and split patterns by name.

The names are those of `tokenizer.ggml.pre` in GGUF files. The patterns are the ones that the models' publishers train
with, not a runtime's simplification of them: where a format only names the recipe, the ids must still be the model's.
A text is cut by each pattern in turn; what lies between two matches is a piece, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, normalizers, pre_tokenizers

SUFFIXES = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
MARKS_AND_BLANKS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _words(digits: str, suffixes: str = SUFFIXES + "|") -> str:
    """The family of cl100k: suffixes, a word with one mark before it, digits, marks with their line ends."""
    return rf"{suffixes}[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}|{MARKS_AND_BLANKS}"


UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"


def _cased_words(digits: str, suffixes: str = "", outside: str = "") -> str:
    """The family of o200k: a word ends where lower case turns to upper case. `outside` is a class to leave out."""
    upper, lower = f"[{UPPER}{outside}]", f"[{LOWER}{outside}]"
    before = r"[^\r\n\p{L}\p{N}]?"
    return (
        f"{before}{upper}*{lower}+{suffixes}|{before}{upper}+{lower}*{suffixes}|{digits}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


def _ranges(table: str) -> str:
    """The inside of a character class from code points in hexadecimal; written so because look-alikes differ."""
    return "".join("-".join(rf"\x{{{point}}}" for point in entry.split("-")) for entry in table.split())


CL100K = _words(r"\p{N}{1,3}")
QWEN2 = _words(r"\p{N}")
O200K = _cased_words(r"\p{N}{1,3}", SUFFIXES + "?")
KIMI = r"[\p{Han}]+|" + _cased_words(r"\p{N}{1,3}", SUFFIXES + "?", r"&&[^\p{Han}]").replace(r"[\r\n/]*", r"[\r\n]*")
KANA_AND_HAN = r"[一-龥぀-ゟ゠-ヿ]+"
ASCII_MARKS = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"
DEEPSEEK_WORDS = (
    ASCII_MARKS + r"[A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK_LETTERS = _ranges(
    "41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376 377 37b-37d 37f 386 388-38a 38c "
    "38e-3a1 3a3-3f5 3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b "
    "1d6b-1d77 1d79-1d9a 1e00-1f15 1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 "
    "1fb6-1fbc 1fbe 1fc2-1fc4 1fc6-1fcc 1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4 1ff6-1ffc 2102 2107 210a-2113 "
    "2115 2119-211d 2124 2126 2128 212a-212d 212f-2134 2139 213c-213f 2145-2149 214e 2183 2184 2c00-2c7b "
    "2c7e-2ce4 2ceb-2cee 2cf2 2cf3 a640-a66d a680-a69b a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06 "
    "fb13-fb17 ff21-ff3a ff41-ff5a 10400-1044f 104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2 118a0-118df "
    "1e900-1e943 "
)
"""Letters with case, as the publishers list them."""
DEEPSEEK_HAN = "[一-龥ࠀ-一가-퟿]+"
NO_SENTENCE_MARKS = r" ?[^(\s|.,!?…。，、।۔،)]+"


@dataclass(frozen=True)
class Recipe:
    """Split patterns in order, whether text is brought to NFC first, and whether a known piece skips the merges."""

    splits: tuple[str, ...]
    nfc: bool = False
    whole_pieces: bool = False

    def normalizer(self) -> Any:
        """The `tokenizers` normaliser, or None."""
        return normalizers.NFC() if self.nfc else None

    def pre_tokenizer(self) -> Any:
        """The `tokenizers` pre-tokenizer: the splits, then bytes to visible characters."""
        cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in self.splits]
        return pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


DIGITS_THEN_GPT2 = Recipe((r"\p{N}", GPT2))
PLAIN_GPT2 = Recipe((GPT2,))

RECIPES: dict[str, Recipe] = {
    "default": Recipe((r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
    "llama-bpe": Recipe((CL100K,), whole_pieces=True),
    "dbrx": Recipe((CL100K,)),
    "chatglm-bpe": Recipe((CL100K,)),
    "glm4": Recipe((CL100K,), whole_pieces=True),
    "qwen2": Recipe((QWEN2,), nfc=True),
    "stablelm2": Recipe((QWEN2,)),
    "qwen35": Recipe(
        (QWEN2.replace(r"]?\p{L}+", r"]?[\p{L}\p{M}]+").replace(r" ?[^\s\p{L}\p{N}]+", r" ?[^\s\p{L}\p{M}\p{N}]+"),),
        nfc=True,
    ),
    "gpt-4o": Recipe((O200K,)),
    "tekken": Recipe((_cased_words(r"\p{N}"),), whole_pieces=True),
    "kimi-k2": Recipe((KIMI,), whole_pieces=True),
    "gpt-2": PLAIN_GPT2,
    "olmo": Recipe((GPT2,), nfc=True),
    "smollm": DIGITS_THEN_GPT2,
    "command-r": Recipe(DIGITS_THEN_GPT2.splits, nfc=True),
    "falcon": Recipe((r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]")),
    "deepseek-llm": Recipe(
        (
            r"[\r\n]",
            rf"\s?[{DEEPSEEK_LETTERS}]+",
            r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
            r"\s+$",
            DEEPSEEK_HAN,
            r"\p{N}",
        )
    ),
    "deepseek-coder": Recipe((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_HAN, r"\p{N}")),
    "deepseek-v3": Recipe((r"\p{N}{1,3}", KANA_AND_HAN, DEEPSEEK_WORDS)),
    "bloom": Recipe((NO_SENTENCE_MARKS,)),
    "viking": Recipe((NO_SENTENCE_MARKS, r"\p{N}")),
    "bailingmoe": Recipe(
        (
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]"
            r"|\s+(?!\S)|\s+",
        )
    ),
    "seed-coder": Recipe(
        (SUFFIXES + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",)
    ),
    "tiny_aya": Recipe((r"\d{1,3}(?=(?:\d{3})*\b)", O200K)),
    "minicpm5": Recipe((r"\p{N}{1,3}", _words(r"\p{N}+")), whole_pieces=True),
    "exaone-moe": Recipe(
        (
            SUFFIXES + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?"
            r"|\s*[\r\n]|\s+(?!\S)|\s+",
        )
    ),
}
"""GGUF's name of a recipe -> the recipe."""

ALIASES: dict[str, str] = {
    **dict.fromkeys(
        ("llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"), "llama-bpe"
    ),
    "smaug-bpe": "dbrx",
    "glm5": "glm4",
    **dict.fromkeys(("deepseek-r1-qwen", "megrez", "kormo", "f2llmv2"), "qwen2"),
    **dict.fromkeys(("hunyuan", "solar-open", "grok-2"), "stablelm2"),
    **dict.fromkeys(("llama4", "kanana2", "talkie", "minimax-m2"), "gpt-4o"),
    **dict.fromkeys(("starcoder", "refact", "codeshell", "exaone", "minerva-7b", "mellum2"), "smollm"),
    **dict.fromkeys(
        (
            "phi-2",
            "jina-es",
            "jina-de",
            "jina-v1-en",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v2-code",
            "roberta-bpe",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "exaone4",
            "jais",
            "trillion",
            "granite-docling",
        ),
        "gpt-2",
    ),
    **dict.fromkeys(("mpt", "modern-bert"), "olmo"),
    **dict.fromkeys(("hunyuan-dense", "joyai-llm", "hy_v4"), "deepseek-v3"),
    **dict.fromkeys(("poro-chat", "gpt3-finnish"), "bloom"),
    **dict.fromkeys(("bailingmoe2", "llada-moe"), "bailingmoe"),
    "cohere2moe": "tiny_aya",
}
"""Names that different models give to the same recipe."""


def recipe(name: str) -> Recipe | None:
    """The recipe of that name, or None if it is not known."""
    return RECIPES.get(ALIASES.get(name, name))
