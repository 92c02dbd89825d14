"""The shipped checks of `HungarianLoss`, on every framework."""

from hungarian_core.testing.test_masked_predictions import *  # noqa: F403  (they are the tests)
