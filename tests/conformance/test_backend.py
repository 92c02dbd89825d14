"""The shipped checks of the backend's hooks, on every framework."""

from hungarian_core.testing.test_backend import *  # noqa: F403  (they are the tests)
