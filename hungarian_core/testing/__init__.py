"""Checks that show whether a backend keeps the promises of `hungarian_core`.

They are an installed pytest suite. Describe your framework by a `Driver` in a file of yours,
for example ``mine.py``::

    from hungarian_core.testing import Driver

    class MyDriver(Driver):
        name = "my_framework"
        def from_numpy(self, x, dtype=None): ...
        def to_numpy(self, x): ...

    driver = MyDriver()

and run::

    pytest -p hungarian_core.testing.plugin --pyargs hungarian_core.testing --driver mine.py:driver

``--driver`` takes ``file.py:name`` or ``package.module:name``, where `name` is a driver, a list of
drivers, or a function that returns either; it may be given several times. Each driver is
one way of running the framework: eagerly, under its compiler, on another device.
The checks need pytest and SciPy: ``pip install "hungarian-core[test]"``.
"""

from hungarian_core.testing.driver import Driver

__all__ = ["Driver"]
__dir__ = __all__.copy
