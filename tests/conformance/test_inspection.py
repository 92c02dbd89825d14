"""The shipped checks of explanations and the stability meter, on every framework."""

from hungarian_core.testing.test_inspection import *  # noqa: F403  (they are the tests)
