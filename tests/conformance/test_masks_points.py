"""The shipped checks of `hungarian_core.masks`, on every framework: points of them."""

from hungarian_core.testing.test_masks_points import *  # noqa: F403  (they are the tests)
