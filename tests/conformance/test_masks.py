"""The shipped checks of `hungarian_core.masks`, on every framework."""

from hungarian_core.testing.test_masks import *  # noqa: F403  (they are the tests)
