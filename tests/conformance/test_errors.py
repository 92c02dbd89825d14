"""The shipped checks of error messages, on every framework."""

from hungarian_core.testing.test_errors import *  # noqa: F403  (they are the tests)
