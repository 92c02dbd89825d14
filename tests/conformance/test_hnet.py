"""The shipped checks of `hungarian_core.hnet`, on every framework."""

from hungarian_core.testing.test_hnet import *  # noqa: F403  (they are the tests)
