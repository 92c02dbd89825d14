"""The shipped checks of `hungarian_core.costs`, on every framework."""

from hungarian_core.testing.test_costs import *  # noqa: F403  (they are the tests)
