"""The NumPy backend: the defaults of `Backend`, which describe NumPy."""

from hungarian_core import Backend

backend = Backend()
