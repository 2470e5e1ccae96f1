"""Programs in replies, tried on test cases in the sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from luhuo import sandbox
from luhuo.align.rewards.config import CodeReward
from luhuo.align.rewards.score import NOT_APPLICABLE, CompletionInfo, Failure, Item, Mark, Scorer, guarded
from luhuo.core.device import cpu_threads
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.sandbox.protections import in_words, refused
from luhuo.verify.code_blocks import code_of


def code(config: CodeReward) -> Scorer:
    """See `CodeReward`. A reply without a program scores 0; a row whose cases cannot be read is a failure.

    Raises `LuhuoError` where this machine cannot hold untrusted code, unless the reward accepts that.
    """
    found = sandbox.protections()
    if not found.enough and not config.weak:
        raise refused(found.missing)
    if found.missing:
        say(tr("The sandbox lacks here: ", "本机沙箱缺少的防护：") + in_words(found.missing))

    def try_out(item: Item, text: str) -> Mark | Failure:
        rows = item.get(config.key)
        if not rows:
            return NOT_APPLICABLE
        cases = [sandbox.read_case(row) for row in rows]
        strict, lenient = code_of(text)
        if not lenient.strip():
            return Mark(0.0, {"strict": 0.0, "lenient": 0.0, "parsed": 0.0})
        options = {"limits": config.limits, "packages": config.packages, "weak": config.weak}
        report = sandbox.tests(lenient, cases, **options)
        value = report.share if config.partial else float(report.share == 1.0)
        parts = {"strict": 0.0 if strict is None else value, "lenient": value, "parsed": float(strict is not None)}
        return Mark(parts[config.extraction], parts | {"share": report.share})

    def score(items: Sequence[Item], texts: Sequence[str], infos: Sequence[CompletionInfo]) -> list[Mark | Failure]:
        with ThreadPoolExecutor(config.workers or cpu_threads()) as pool:
            return list(pool.map(lambda item, text: guarded(try_out, item, text), items, texts))

    return score
