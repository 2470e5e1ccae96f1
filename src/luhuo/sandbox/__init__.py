"""Running code that nobody trusts: `run(code)` and `tests(code, cases)`."""

from luhuo.sandbox.limits import Limits, Outcome
from luhuo.sandbox.protections import Protections, protections
from luhuo.sandbox.runner import run

__all__ = ["Limits", "Outcome", "Protections", "protections", "run"]
