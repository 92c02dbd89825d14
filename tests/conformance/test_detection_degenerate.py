"""The shipped checks of `hungarian_core.DetrLoss`, on every framework: degenerate input."""

from hungarian_core.testing.test_detection_degenerate import *  # noqa: F403  (they are the tests)
