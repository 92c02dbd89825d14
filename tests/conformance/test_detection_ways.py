"""The shipped checks of `hungarian_core.DetrLoss`, on every framework: both ways of the passes."""

from hungarian_core.testing.test_detection_ways import *  # noqa: F403  (they are the tests)
