"""The shipped checks of `hungarian_core.DetrLoss`, on every framework."""

from hungarian_core.testing.test_detection import *  # noqa: F403  (they are the tests)
