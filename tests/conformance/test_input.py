"""The shipped checks of what users pass, on every framework."""

from hungarian_core.testing.test_input import *  # noqa: F403  (they are the tests)
