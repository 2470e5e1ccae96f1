"""Running code that nobody trusts: `run(code)` and `tests(code, cases)`."""

from luhuo.sandbox.cases import Call, Case, Program, Report, Result, read_case, tests
from luhuo.sandbox.limits import Limits, Outcome
from luhuo.sandbox.protections import Protections, protections
from luhuo.sandbox.runner import run

__all__ = [
    "Call",
    "Case",
    "Limits",
    "Outcome",
    "Program",
    "Protections",
    "Report",
    "Result",
    "protections",
    "read_case",
    "run",
    "tests",
]
