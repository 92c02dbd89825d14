"""The shipped checks of `pit_loss`, on every framework."""

from hungarian_core.testing.test_permutation import *  # noqa: F403  (they are the tests)
