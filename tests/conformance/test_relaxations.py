"""The shipped checks of regularised matchings, on every framework."""

from hungarian_core.testing.test_relaxations import *  # noqa: F403  (they are the tests)
