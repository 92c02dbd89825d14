"""The shipped checks of solvers by name, on every framework."""

from hungarian_core.testing.test_solvers import *  # noqa: F403  (they are the tests)
