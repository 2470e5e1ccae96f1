"""Means over seeds with their 95% intervals (Student's t), as the tables of the other scripts print them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""97.5% points of Student's t, by the number of seeds."""


def half_width(values: Sequence[float]) -> float:
    """Half the interval of the mean of two values or more; not a number beyond the table."""
    return STUDENT.get(len(values), math.nan) * statistics.stdev(values) / math.sqrt(len(values))


def spread(values: Sequence[float]) -> str:
    """Mean and half the width of its interval; of one value the value alone."""
    mean = statistics.fmean(values)
    if len(values) == 1:
        return f"{mean:.2f}"
    return f"{mean:.2f} ±{half_width(values):.2f}"
