"""A server's threads do not hold cores while they wait, unless the user wants them to."""

from __future__ import annotations

import os
import subprocess
import sys

from luhuo.serve.waiting import SPINS, wait_briefly


def test_threads_sleep_soon_where_nothing_was_said():
    environment: dict[str, str] = {}
    wait_briefly(environment)
    assert environment == {"GOMP_SPINCOUNT": str(SPINS), "KMP_BLOCKTIME": "0"}


def test_what_the_user_says_goes_before():
    for given in ({"GOMP_SPINCOUNT": "7", "KMP_BLOCKTIME": "200"}, {"OMP_WAIT_POLICY": "ACTIVE"}):
        environment = dict(given)
        wait_briefly(environment)
        assert environment == given


def test_it_is_said_before_torch_is_there():
    program = (
        "import sys, luhuo.serve.commands, luhuo.serve.waiting as w; w.wait_briefly(); print('torch' in sys.modules)"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "KMP_", "OMP_"))}
    found = subprocess.run([sys.executable, "-c", program], env=clean, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
