"""The model card (README.md) of a model directory, written from its manifest."""

from __future__ import annotations

import json
from typing import Any


def model_card(name: str, manifest: dict[str, Any]) -> str:
    """Markdown with the front matter that model hubs read, then origin, data, results and how to load."""
    ancestors = [{"stage": manifest["stage"], **manifest}, *manifest["ancestors"].values()]
    sources = {s["reference"]: s for a in ancestors for s in a["sources"]}
    lines = ["---", "library_name: transformers", "language: [zh, en]", "tags: [luhuo]", "---", "", f"# {name}", ""]
    lines += [
        f"Made by Luhuo's `{manifest['stage']}` stage, digest `{manifest['digest'][:16]}`, seed {manifest['seed']}.",
        "",
    ]
    lines += ["## Data", "", "| source | licence | reference |", "| --- | --- | --- |"]
    lines += [f"| {s['name']} | {s['licence']} | `{s['reference']}` |" for s in sources.values()]
    lines += [
        "",
        "## Results",
        "",
        "```json",
        json.dumps(manifest["metrics"], ensure_ascii=False, indent=2),
        "```",
        "",
    ]
    lines += [
        "## Configuration",
        "",
        "```json",
        json.dumps(manifest["config"], ensure_ascii=False, indent=2),
        "```",
        "",
    ]
    lines += [
        "## Use",
        "",
        f"`luhuo chat {name}`, or `transformers.AutoModelForCausalLM.from_pretrained({name!r})`.",
        "",
    ]
    return "\n".join(lines)
