"""Peak memory of a model in a process of its own: while it is loaded, and while it writes.

python -m luhuo.compress.measures.memory '{"model": DIR, "dtype": "auto", "device": "cpu", …}'
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from luhuo.core.errors import RunFailed
from luhuo.core.language import tr

MEASURED = ("process", "loading", "writing")
"""Peaks in bytes: of a process with everything imported, after the model was loaded, after it has written."""


def peak_memory(
    model: str | Path, dtype: str = "auto", device: str = "cpu", *, prompt: int = 64, new: int = 32
) -> dict[str, int]:
    """Peaks by `MEASURED`; on a GPU those of its own memory. Raises `RunFailed` if the process does not live."""
    request = {"model": str(model), "dtype": dtype, "device": device, "prompt": prompt, "new": new}
    command = [sys.executable, "-m", __name__, json.dumps(request)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RunFailed(
            tr("The model could not be used in a process of its own.", "模型无法在独立进程中运行。"),
            found=tr(f"exit status {done.returncode}: ", f"退出码 {done.returncode}：") + done.stderr.strip()[-600:],
            where=model,
            fix=tr("A negative status is mostly a lack of memory.", "退出码为负多半是内存不足。"),
        )
    return json.loads(done.stdout.splitlines()[-1])


def _peak(device: str) -> int:
    """The most memory this process has held.

    Not `getrusage`: what it says survives `exec`, so that a child would seem as large as the process it was copied
    from. `VmHWM` belongs to the program that runs now.
    """
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _measure(request: dict[str, object]) -> dict[str, int]:
    import torch

    from luhuo.adapter.open import open_decoder
    from luhuo.core.device import pick_device
    from luhuo.inference.engine import Engine
    from luhuo.inference.sampling import Sampling

    device = str(pick_device(str(request["device"])))
    torch.zeros(1, device=device)
    found = {"process": _peak(device)}
    model = open_decoder(str(request["model"]), str(request["dtype"]), device)
    found["loading"] = _peak(device)
    room = model.config.max_positions
    prompt, new = min(int(str(request["prompt"])), room // 2), min(int(str(request["new"])), room // 2 - 1)
    ids = torch.randint(model.config.vocab_size, (prompt,), generator=torch.Generator().manual_seed(0)).tolist()
    Engine(model, prefix_cache=False, speculate="never").generate(
        [ids], Sampling(max_tokens=max(1, new), temperature=0.0, ignore_eos=True)
    )
    return found | {"writing": _peak(device)}


if __name__ == "__main__":
    print(json.dumps(_measure(json.loads(sys.argv[1]))))
