"""The shipped checks of `hungarian_core.DetrLoss`, on every framework: masks and masked queries."""

from hungarian_core.testing.test_detection_masks import *  # noqa: F403  (they are the tests)
