"""See who was matched with whom: `explain`, `plot_matches` and `StabilityMeter`.

They read values, on the host: for arrays of any framework, and not inside a program that is
being traced. `hungarian_core` loads this package when one of its names is asked for.
"""

from hungarian_core.inspection._explain import Explanation, explain
from hungarian_core.inspection._plot import plot_matches
from hungarian_core.inspection._stability import StabilityMeter

__all__ = ["Explanation", "StabilityMeter", "explain", "plot_matches"]
__dir__ = __all__.copy
