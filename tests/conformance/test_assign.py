"""The shipped checks of `assign`, on every framework."""

from hungarian_core.testing.test_assign import *  # noqa: F403  (they are the tests)
