"""The shipped checks of `AlignedDetrLoss`, on every framework."""

from hungarian_core.testing.test_aligned import *  # noqa: F403  (they are the tests)
