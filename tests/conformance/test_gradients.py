"""The shipped checks of gradients through a matching, on every framework."""

from hungarian_core.testing.test_gradients import *  # noqa: F403  (they are the tests)
