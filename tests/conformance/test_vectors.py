"""The shipped checks of `hungarian_core.costs` on vectors, on every framework."""

from hungarian_core.testing.test_vectors import *  # noqa: F403  (they are the tests)
