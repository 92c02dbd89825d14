"""The shipped checks of `loss`, on every framework."""

from hungarian_core.testing.test_loss import *  # noqa: F403  (they are the tests)
