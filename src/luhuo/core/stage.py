"""A stage: one config class with one `run`. CLI, recipe schema and reference page are derived from it."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar

from luhuo.core.config import Config, field
from luhuo.core.language import tr

if TYPE_CHECKING:
    from luhuo.core.artifact import Workspace


class Stage(Config, abc.ABC):
    """Base of all stages. Fields of type `Input` name what the stage reads; `run` writes into `out.path`."""

    version: ClassVar[int] = 1
    """Raise it when the same config and inputs give another result: finished artifacts are then made again."""

    resumable: ClassVar[bool] = False
    """True: `run` continues from what lies in `out.path`. False: it always starts in an empty folder."""

    distributed: ClassVar[bool] = False
    """True: under `torchrun` every process calls `run` (with the same folder; the first one owns it), otherwise only
    the first does, and the others wait for the artifact."""

    seed: int = field(0, "Seed of everything random in this stage.", "本阶段所有随机性的种子。", ge=0)

    @abc.abstractmethod
    def run(self, out: Workspace) -> None:
        """Do the work; everything written under `out.path` becomes the artifact when this returns."""

    def disk_bytes(self) -> int:
        """An upper estimate of the disk space the stage needs; checked before a recipe starts."""
        return 50_000_000

    @classmethod
    def reference(cls) -> list[dict[str, Any]]:
        """One row a field: name, type, default, description in the user's language."""
        rows = []
        for name, info in cls.model_fields.items():
            extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
            rows.append(
                {
                    "name": name,
                    "type": _type_name(info.annotation),
                    "default": tr("required", "必填")
                    if info.is_required()
                    else repr(info.get_default(call_default_factory=True)),
                    "description": tr(info.description or "", str(extra.get("zh", info.description or ""))),
                }
            )
        return rows


def _type_name(annotation: Any) -> str:
    text = getattr(annotation, "__name__", None) if not getattr(annotation, "__args__", None) else None
    text = text or str(annotation)
    for noise in ("typing.", "luhuo.", "NoneType"):
        text = text.replace(noise, "None" if noise == "NoneType" else "")
    return text.replace("Annotated[str, <core.config.InputMark object", "Input[<").split(" at 0x")[0]
