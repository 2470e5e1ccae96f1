"""Time to loss: how long Luhuo needs to reach the held-out loss that a plain Llama loop reaches in ten minutes.

    python bench/time_to_loss.py corpus                     real text in both languages, a tokenizer, shards
    python bench/time_to_loss.py plain --rate 3e-3          one run of the plain loop, limited by tokens
    python bench/time_to_loss.py luhuo --tokens 4000000     one run of Luhuo
    python bench/time_to_loss.py rates                      tokens/s of both, taking turns, and compiling
    python bench/time_to_loss.py table                      what the runs so far say
    python bench/time_to_loss.py all                        everything at ten minutes, five rates, three seeds

The plain loop is what one would write first: LlamaForCausalLM of transformers (SDPA, bf16 autocast, torch.compile),
fused AdamW (0.9, 0.95, decay 0.1), 2% warm-up, cosine to 10%, clip 1.0, std 0.02, packed rows, and the best of five
learning rates. Luhuo trains as many parameters on the same rows with its derived defaults. The held-out loss is the
mean over the same tokens for both: documents neither has seen, each row within one document. What a run reaches
depends on its tokens alone, so with `--clock tokens` its time is tokens / (tokens/s measured by `rates`), for the
plain loop plus compiling, and runs may be made on a busy machine; with `--clock wall` it is the run's own. Every
finished run is one line of OUT/results.jsonl and is not made again.

LUHUO_TEST_DATA names a folder with zh_classics, zh_docs, zh_laws, zh_wiki_qa, tinystories_sample and wikitext2.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from real_text import LENGTH, VOCABULARY, corpus, held_out, loader, score

from luhuo.core.artifact import Workspace
from luhuo.core.device import use_threads
from luhuo.core.metrics import MetricsLog
from luhuo.core.seeds import derive_seed
from luhuo.model.config import ModelConfig
from luhuo.model.count import parameters
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import CausalLM
from luhuo.train.sizes import derive
from luhuo.train.trainer import Trainer

SIZE = "3m"
PLAIN_ROWS = 16
RATES = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
MINUTES = 10
SHARES = (0.2, 0.35, 0.5)
"""Of the plain loop's tokens: how long Luhuo's runs are; the length that reaches the loss lies between them."""
DECIDING = {"optimiser", "learning_rate", "embedding_rate", "muon_scale", "betas", "weight_decay", "clip", "ema"}
DECIDING |= {"schedule", "warmup", "warmup_steps", "decay", "decay_shape", "floor", "batch_warmup", "batch_start"}
"""Settings of the trainer on which the weights depend."""


def shape(settings: dict[str, Any]) -> ModelConfig:
    """Luhuo's model of this size; what `settings` holds replaces parts of it."""
    usual = derive(SIZE, VOCABULARY).model
    return ModelConfig.parse({**usual.model_dump(), **settings}, where="model") if settings else usual


class Plain:
    """The plain loop: a Llama of transformers with as many parameters."""

    def __init__(self, steps: int, rate: float, seed: int, *, compiled: bool = True) -> None:
        import transformers

        torch.manual_seed(seed)
        config = shape({})
        settings = transformers.LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.hidden_size // 32,
            num_key_value_heads=config.hidden_size // 32,
            intermediate_size=config.intermediate_size,
            tie_word_embeddings=True,
            use_cache=False,
        )
        settings._attn_implementation = "sdpa"
        self.model = transformers.LlamaForCausalLM(settings).train()
        self.call = torch.compile(self.model) if compiled else self.model
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        rest = [p for p in self.model.parameters() if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
            lr=rate,
            betas=(0.9, 0.95),
            fused=True,
        )
        warm = max(1, round(0.02 * steps))

        def factor(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, factor)

    def step(self, ids: torch.Tensor) -> None:
        """Learn from rows (B, T + 1)."""
        with torch.autocast("cpu", torch.bfloat16):
            loss = self.call(ids[:, :-1].contiguous(), labels=ids[:, 1:], shift_labels=ids[:, 1:].contiguous()).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        self.optimiser.zero_grad(set_to_none=True)

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """For scoring."""
        with torch.autocast("cpu", torch.bfloat16):
            return self.model(ids).logits


def run_plain(out: Path, settings: dict[str, Any], tokens: int, seed: int, points: int) -> dict[str, Any]:
    """Train the plain loop on `tokens`; `settings`: rate."""
    steps = -(-tokens // (PLAIN_ROWS * LENGTH))
    rows, clock = held_out(out), Clock()
    plain = Plain(steps, settings["rate"], seed)
    curve = []
    for step, batch in zip(range(1, steps + 1), loader(out, PLAIN_ROWS, seed), strict=False):
        plain.step(torch.from_numpy(batch["ids"]))
        if step == steps or step % max(1, steps // points) == 0:
            with clock.paused():
                curve.append((step * PLAIN_ROWS * LENGTH, score(plain.logits, rows)))
    return {"curve": curve, **clock.read(), "parameters": sum(p.numel() for p in plain.model.parameters())}


def resolved(settings: dict[str, Any]) -> dict[str, Any]:
    """All that decides a run of Luhuo: what is given, and the defaults of today for the rest."""
    plan = derive(SIZE, VOCABULARY, length=LENGTH, batch=settings.get("batch"))
    trainer = {"learning_rate": plan.learning_rate} | settings.get("trainer", {})
    trainer = TrainerConfig(steps=1, **trainer).model_dump(include=DECIDING)
    model = shape(settings.get("model", {})).model_dump(exclude_defaults=True)
    rest = {"start": settings.get("start", {}), "masks": settings.get("masks", True)}
    return {"batch": plan.batch, "model": model, "trainer": trainer, **rest}


def run_luhuo(out: Path, settings: dict[str, Any], tokens: int, seed: int, points: int) -> dict[str, Any]:
    """Train Luhuo on `tokens`; `settings` (batch in tokens, model, trainer, start, masks) replace what is derived."""
    plan = derive(SIZE, VOCABULARY, length=LENGTH, batch=settings.get("batch"))
    size = plan.batch // LENGTH
    steps = -(-tokens // (size * LENGTH))
    rows, clock = held_out(out), Clock()
    model = initialise(
        Decoder(shape(settings.get("model", {}))), derive_seed(seed, "weights"), **settings.get("start", {})
    )
    curve: list[tuple[int, float]] = []

    def evaluate(scored: Decoder) -> dict[str, float]:
        with clock.paused():
            found = score(scored, rows)
            curve.append((trainer.tokens, found))
        return {"held_out": found}

    values = {"steps": steps, "learning_rate": plan.learning_rate, "eval_every": max(1, steps // points)}
    values |= {"checkpoint_every_s": 0, "log_every": 50} | settings.get("trainer", {})
    with tempfile.TemporaryDirectory() as folder:
        work = Workspace(Path(folder), MetricsLog(Path(folder) / "metrics.jsonl"))
        source = loader(out, size, seed, masks=settings.get("masks", True))
        trainer = Trainer(model, CausalLM(), source, TrainerConfig(**values), work, evaluate=evaluate)
        trainer.run()
    return {"curve": curve, **clock.read(), "parameters": sum(parameters(model.config).values())}


class Clock:
    """Seconds of training: wall clock and processor, without the pauses for scoring."""

    def __init__(self) -> None:
        self._start = self._now()
        self._pauses = (0.0, 0.0)

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count."""
        before = self._now()
        yield
        after = self._now()
        self._pauses = (self._pauses[0] + after[0] - before[0], self._pauses[1] + after[1] - before[1])

    def read(self) -> dict[str, float]:
        """Seconds so far."""
        now = self._now()
        wall, cpu = (now[i] - self._start[i] - self._pauses[i] for i in (0, 1))
        return {"wall_s": round(wall, 1), "cpu_s": round(cpu, 1)}


SIDES = {"plain": run_plain, "luhuo": run_luhuo}


def results(out: Path) -> list[dict[str, Any]]:
    """All finished runs."""
    file = out / "results.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def record(out: Path, side: str, settings: dict[str, Any], tokens: int, seed: int, points: int = 10) -> dict[str, Any]:
    """The run of these settings: the finished one, or a new one."""
    what = {"side": side, "settings": resolved(settings) if side == "luhuo" else settings}
    what |= {"tokens": tokens, "seed": seed}
    for line in results(out):
        if what.items() <= line.items():
            return line
    found = SIDES[side](out, settings, tokens, seed, points)
    found = what | found | {"loss": found["curve"][-1][1], "threads": torch.get_num_threads()}
    with (out / "results.jsonl").open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(found) + "\n")
    print(json.dumps({name: value for name, value in found.items() if name != "curve"}), flush=True)
    return found


def measure_rates(out: Path, turns: int = 5, steps: int = 20) -> dict[str, Any]:
    """Tokens/s of both sides, taking turns of twenty steps after warm-up (medians), and the plain loop's compiling."""
    plain = Plain(1000, 1e-3, 0)
    batches = [torch.from_numpy(next(iter(loader(out, PLAIN_ROWS, seed)))["ids"]) for seed in range(steps)]
    first = theirs(plain, batches[:2])
    found = {"plain": [theirs(plain, batches)], "luhuo": [ours(out, steps)]}
    for _ in range(turns):
        found["plain"].append(theirs(plain, batches))
        found["luhuo"].append(ours(out, steps))
    rates = {
        "tokens_per_s": {side: statistics.median(values[1:]) for side, values in found.items()},
        "all": found,
        "compiling_s": 2 * PLAIN_ROWS * LENGTH * (1 / first - 1 / statistics.median(found["plain"][1:])),
        "threads": torch.get_num_threads(),
    }
    (out / "rates.json").write_text(json.dumps(rates) + "\n", encoding="utf-8")
    return rates


def theirs(plain: Plain, batches: list[torch.Tensor]) -> float:
    """Tokens/s of the plain loop over these batches."""
    start = time.perf_counter()
    for ids in batches:
        plain.step(ids)
    return len(batches) * PLAIN_ROWS * LENGTH / (time.perf_counter() - start)


def ours(out: Path, steps: int) -> float:
    """Tokens/s of the second half of a short run of Luhuo."""
    plan = derive(SIZE, VOCABULARY, length=LENGTH)
    config = TrainerConfig(
        steps=steps, log_every=steps // 2, learning_rate=plan.learning_rate, checkpoint_every_s=0, background=False
    )
    with tempfile.TemporaryDirectory() as folder:
        work = Workspace(Path(folder), MetricsLog(Path(folder) / "metrics.jsonl"))
        rows = loader(out, plan.batch // LENGTH, 0)
        return Trainer(initialise(Decoder(plan.model), 0), CausalLM(), rows, config, work).run()["tokens_per_s"]


def needed(runs: list[dict[str, Any]], loss: float, what: str) -> float | None:
    """Tokens or seconds at which whole runs of growing length end at `loss`: log-linear between the two around it."""
    ends = sorted((run[what], run["loss"]) for run in runs)
    for (a, high), (b, low) in itertools.pairwise(ends):
        if low <= loss <= high:
            return a * (b / a) ** ((high - loss) / (high - low))
    return ends[0][0] if ends and ends[0][1] <= loss else None


def table(out: Path, clock: str) -> None:
    """The plain loop's rates and seeds, and what Luhuo needs."""
    runs = results(out)
    plain = [run for run in runs if run["side"] == "plain"]
    if not plain:
        raise SystemExit("no run of the plain loop yet")
    longest = max(run["tokens"] for run in plain)
    plain = [run for run in plain if run["tokens"] == longest]
    print(f"plain loop, {longest:,} tokens, {plain[0]['parameters']:,} parameters")
    medians: dict[float, float] = {}
    for rate in sorted({run["settings"]["rate"] for run in plain}):
        found = [run for run in plain if run["settings"]["rate"] == rate]
        medians[rate] = statistics.median(run["loss"] for run in found)
        print(f"  rate {rate:g}: " + ", ".join(f"seed {run['seed']} {run['loss']:.4f}" for run in found))
    best = min(medians, key=lambda rate: medians[rate])
    print(f"  best rate {best:g}: median {medians[best]:.4f}")
    theirs = [run for run in plain if run["settings"]["rate"] == best]
    ours = [run for run in runs if run["side"] == "luhuo" and run["settings"] == resolved({})]
    measure = "wall_s" if clock == "wall" else "tokens"
    found = []
    for seed in sorted({run["seed"] for run in ours}):
        of_seed = sorted((run for run in ours if run["seed"] == seed), key=lambda run: run["tokens"])
        reached = needed(of_seed, medians[best], measure)
        found += [reached] if reached else []
        print(f"luhuo, seed {seed}: " + ", ".join(f"{run['tokens']:,} tokens {run['loss']:.4f}" for run in of_seed))
    if found:
        conclude(out, clock, statistics.median(run[measure] for run in theirs), sorted(found))


def conclude(out: Path, clock: str, theirs: float, ours: list[float]) -> None:
    """Print how the two compare: tokens (and with measured rates seconds), or seconds by the wall clock."""
    middle = statistics.median(ours)
    unit = "s" if clock == "wall" else "tokens"
    spread = f"{ours[0]:,.0f} to {ours[-1]:,.0f}"
    print(f"plain {theirs:,.0f} {unit}, luhuo {middle:,.0f} ({spread}): {middle / theirs:.0%}")
    file = out / "rates.json"
    if clock == "tokens" and file.is_file():
        rates = json.loads(file.read_text())
        of = rates["tokens_per_s"]
        before, now = theirs / of["plain"] + rates["compiling_s"], middle / of["luhuo"]
        print(f"plain {before:.0f} s with compiling, luhuo {now:.0f} s: {now / before:.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("corpus", "plain", "luhuo", "rates", "table", "all"))
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "time_to_loss")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=4e-3, help="learning rate of the plain loop")
    parser.add_argument(
        "--settings", type=json.loads, default={}, help="JSON: batch, model, trainer, start, masks of Luhuo"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--points", type=int, default=10, help="held-out scores along the way")
    parser.add_argument("--clock", choices=("tokens", "wall"), default="tokens")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    use_threads(options.threads)
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    if options.what == "corpus":
        corpus(out)
    elif options.what == "plain":
        record(out, "plain", {"rate": options.rate}, options.tokens, options.seed, options.points)
    elif options.what == "luhuo":
        record(out, "luhuo", options.settings, options.tokens, options.seed, options.points)
    elif options.what == "rates":
        print(json.dumps(measure_rates(out)))
    elif options.what == "all":
        everything(out, options.seeds)
    if options.what in ("table", "all"):
        table(out, options.clock)


def everything(out: Path, seeds: int) -> None:
    """Corpus, rates of the two sides, then all runs, as many tokens as ten minutes of the plain loop allow."""
    corpus(out)
    rates = measure_rates(out)
    print(json.dumps(rates))
    tokens = round((60 * MINUTES - rates["compiling_s"]) * rates["tokens_per_s"]["plain"])
    tried = [record(out, "plain", {"rate": rate}, tokens, 0) for rate in RATES]
    best = min(tried, key=lambda run: run["loss"])["settings"]
    for seed in range(seeds):
        record(out, "plain", best, tokens, seed)
        for share in SHARES:
            record(out, "luhuo", {}, int(tokens * share), seed)


if __name__ == "__main__":
    main()
