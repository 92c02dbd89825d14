"""The shipped checks of `hungarian_core.boxes`, on every framework."""

from hungarian_core.testing.test_boxes import *  # noqa: F403  (they are the tests)
