"""The shipped checks of `assignment_matrix`, on every framework."""

from hungarian_core.testing.test_assignment_matrix import *  # noqa: F403  (they are the tests)
