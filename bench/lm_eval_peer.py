"""lm-evaluation-harness on the same items, offline: its own task files and scoring over rows that Luhuo has read.

`compare(model, folder, tasks, data, limit)` runs both on one model; a difference is theirs minus ours. Its tasks are
its package's YAML files; only where rows and examples come from is replaced (a list in memory, the first examples).
"""

from __future__ import annotations

import json
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lm_eval
import torch
import transformers
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._yaml_loader import load_yaml

from luhuo.evaluation.asking import AskSettings
from luhuo.evaluation.runner import Runner, Subject
from luhuo.evaluation.tasks import catalogue
from luhuo.evaluation.tasks.documents import Document, documents
from luhuo.evaluation.tasks.sources import folder_of
from luhuo.inference.engine import Engine
from luhuo.model.decoder import Decoder

COMMON = ("piqa", "winogrande", "boolq", "openbookqa", "commonsense_qa", "sciq", "social_iqa", "lambada")
FOLDERS = dict.fromkeys(COMMON, "commonsense") | {
    "arc_easy": "arc",
    "arc_challenge": "arc",
    "hellaswag": "hellaswag",
    "truthfulqa_mc1": "truthfulqa",
    "truthfulqa_mc2": "truthfulqa",
    "mmlu": "mmlu",
    "mmlu_continuation": "mmlu",
    "cmmlu": "cmmlu",
    "ceval": "ceval_sample",
    "gsm8k": "gsm8k",
    "wikitext": "wikitext2",
}
"""Task -> folder of the data."""
THEIRS = Path(lm_eval.__file__).parent / "tasks"
FILES = {
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "piqa": "piqa/piqa.yaml",
    "winogrande": "winogrande/default.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "commonsense_qa": "commonsense_qa/default.yaml",
    "sciq": "sciq/sciq.yaml",
    "social_iqa": "siqa/siqa.yaml",
    "lambada": "lambada/lambada_openai.yaml",
    "truthfulqa_mc1": "truthfulqa/truthfulqa_mc1.yaml",
    "truthfulqa_mc2": "truthfulqa/truthfulqa_mc2.yaml",
    "mmlu": "mmlu/default/mmlu_{subject}.yaml",
    "mmlu_continuation": "mmlu/continuation/mmlu_{subject}.yaml",
    "cmmlu": "cmmlu/cmmlu_{subject}.yaml",
    "ceval": "ceval/ceval-valid_{subject}.yaml",
    "gsm8k": "gsm8k/gsm8k.yaml",
    "wikitext": "wikitext/wikitext.yaml",
}
"""Our task -> their file."""
METRICS = {
    "acc": "acc,none",
    "acc_norm": "acc_norm,none",
    "mass": "acc,none",
    "exact.strict": "exact_match,strict-match",
    "exact.flexible": "exact_match,flexible-extract",
    "perplexity": "perplexity,none",
    "word_perplexity": "word_perplexity,none",
    "byte_perplexity": "byte_perplexity,none",
    "bits_per_byte": "bits_per_byte,none",
}
"""Our metric -> theirs, with its filter."""
PIECE = 40
"""Replies that are asked for at once."""


@dataclass
class Parity:
    """One task by both: scores (ours, theirs), and how far items are apart."""

    task: str
    n: int = 0
    scores: dict[str, tuple[float, float]] = field(default_factory=dict)
    worst: float = 0.0
    """Largest difference of a log-likelihood."""
    beyond: int = 0
    """Log-likelihoods further apart than 1e-3 and 1e-5 of their size."""
    values: int = 0
    texts_differ: int = 0
    """Replies that are not equal, character by character."""


def place(task: str, data: Path, scratch: Path) -> str:
    """The folder of a task's data, read from `data`.

    Of C-Eval there is a sample of the validation questions that names no subjects, with an answer that is no letter
    in some: the others become one subject in `scratch`, the first five questions the examples of the rest.
    """
    folder = data / FOLDERS[task]
    if task != "ceval":
        return str(folder)
    rows = [json.loads(line) for line in (folder / "val_sample.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [row | {"subject": "logic"} for row in rows if row["answer"] in "ABCD"]
    for split, part in {"dev": rows[:5], "val": rows[5:]}.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (scratch / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return str(scratch)


def row_for(task: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A row as their task reads it."""
    if task == "lambada":
        return {"text": f"{fields['context']} {fields['target']}"}
    if task == "cmmlu":
        return {"Question": fields["question"], "Answer": fields["answer"], **{k: fields[k] for k in "ABCD"}}
    if task.startswith("mmlu"):
        return fields | {"answer": int(fields["answer"])}
    return dict(fields)


def their_task(task: str, items: Sequence[Document]) -> ConfigurableTask:
    """Their task over these items, which share their examples."""
    subject = items[0].subject if "{subject}" in FILES[task] else ""
    path = THEIRS / FILES[task].format(subject=subject)
    if not path.is_file():  # a subject of no name of theirs: any of their prompts will do, and ours says the same
        raise FileNotFoundError(path)
    config = load_yaml(path)
    for key in ("tag", "group", "task_alias", "dataset_name", "dataset_kwargs"):
        config.pop(key, None)
    examples = [row_for(task, row) for row in items[0].examples]
    rows = {"items": [row_for(task, item.fields) for item in items], "examples": examples}
    for split in ("training_split", "validation_split", "test_split", "fewshot_split"):
        config[split] = None
    config |= {"test_split": "items", "custom_dataset": lambda **_: rows_as_dataset(rows), "metadata": {"version": 0}}
    config |= {"num_fewshot": len(examples)}
    if examples:
        config["fewshot_split"] = "examples"
        config["fewshot_config"] = dict(config.get("fewshot_config") or {}) | {"sampler": "first_n"}
    return ConfigurableTask(config=config)


def rows_as_dataset(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The splits as their library has them."""
    import datasets

    return {name: datasets.Dataset.from_list(part) for name, part in rows.items() if part}


def their_model(folder: Path, model: Decoder, *, context: int | None = None, batch: int = 8) -> HFLM:
    """Their `hf` back end over the model directory, in fp32, with our token in front of a text."""
    network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    words = transformers.AutoTokenizer.from_pretrained(folder)
    assert model.tokenizer is not None
    front = model.tokenizer.encode_prompt("")[-1]
    return HFLM(
        pretrained=network,
        tokenizer=words,
        batch_size=batch,
        device=str(model.device),
        prefix_token_id=front,
        max_length=context or model.config.max_positions,
    )


def their_samples(
    task: str,
    items: Sequence[Document],
    lm: HFLM,
    tokens: int,
    kept: MutableMapping[str, Any] | None = None,
) -> tuple[dict[str, float], list[Any]]:
    """Their scores, micro-averaged over parts, and what they got for each item, in the items' order.

    Parts are subjects, and `PIECE` replies where replies are written. Those in `kept` are not asked for again; what is
    put there is JSON.
    """
    kept = {} if kept is None else kept
    parts: dict[str, list[Document]] = {}
    for number, item in enumerate(items):
        name = f"piece {number // PIECE}" if task == "gsm8k" else item.subject if "{subject}" in FILES[task] else ""
        parts.setdefault(name, []).append(item)
    sums: dict[str, float] = {}
    replies: dict[str, Any] = {}
    for part, documents_of in parts.items():
        if part not in kept:
            kept[part] = _their_part(task, documents_of, lm, tokens)
        for name, value in kept[part]["scores"].items():
            sums[name] = sums.get(name, 0.0) + value * len(documents_of) / len(items)
        replies |= kept[part]["replies"]
    return sums, [replies[item.id] for item in items]


def _their_part(task: str, items: Sequence[Document], lm: HFLM, tokens: int) -> dict[str, Any]:
    theirs = their_task(task, items)
    if task == "gsm8k":
        theirs.config.generation_kwargs["max_gen_toks"] = tokens
    found = evaluate(lm, {task: theirs}, bootstrap_iters=0, log_samples=True, verbosity="ERROR")
    assert found is not None
    scores = found["results"][task].items()
    replies: dict[str, Any] = {}
    for record in found["samples"][task]:  # one for each filter, with equal replies
        replies.setdefault(items[record["doc_id"]].id, record["resps"])
    return {
        "scores": {name: value for name, value in scores if isinstance(value, float) and "stderr" not in name},
        "replies": replies,
    }


def compare(
    model: Decoder,
    lm: HFLM,
    task: str,
    data: str,
    *,
    limit: int | None,
    shots: int | None = None,
    tokens: int = 256,
    context: int | None = None,
    seed: int = 0,
    kept: MutableMapping[str, Any] | None = None,
) -> Parity:
    """One task by both; `kept` as in `their_samples`."""
    ours = catalogue.task(task)
    ask = AskSettings(limit=limit, shots=shots, max_tokens=tokens, context=context)
    mine = Runner(Subject(Engine(model)), ask, seed).run(ours, data)
    items = documents(ours, folder_of(ours, data), limit=limit, seed=seed, shots=shots)
    scores, replies = their_samples(task, items, lm, tokens, kept)
    found = Parity(task, len(items))
    for name in ours.spec.metrics:
        if METRICS.get(name) in scores:
            found.scores[name] = (mine.summary["metrics"][name]["value"], scores[METRICS[name]])
    for row, reply in zip(mine.rows, replies, strict=True):
        _judge(found, row, reply)
    return found


def _judge(found: Parity, row: dict[str, Any], reply: list[Any]) -> None:
    if "outputs" in row:
        found.texts_differ += row["outputs"][0] != reply[0][0]
        return
    mine = row.get("logprobs") or [row["scores"]["logprob"]]
    theirs = [one[0] for one in reply]
    theirs = [one[0] if isinstance(one, (tuple, list)) else one for one in theirs]
    for a, b in zip(mine, map(float, theirs), strict=True):
        found.values += 1
        found.worst = max(found.worst, abs(a - b))
        found.beyond += abs(a - b) > max(1e-3, 1e-5 * abs(b))
