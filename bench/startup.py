"""How long a user waits before anything happens: `import luhuo` and `luhuo --help`, each in a fresh process.

python bench/startup.py [--repeats 15]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "python -c 'import luhuo'": [sys.executable, "-c", "import luhuo"],
    "python -m luhuo --help": [sys.executable, "-m", "luhuo", "--help"],
    "python -c 'import transformers'": [sys.executable, "-c", "import transformers"],
}


def main() -> None:
    """Print the median and the range of each command, in seconds; the runs alternate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():
        print(f"{name:34} {statistics.median(values):.3f} s ({min(values):.3f} to {max(values):.3f})")


if __name__ == "__main__":
    main()
