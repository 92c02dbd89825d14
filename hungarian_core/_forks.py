"""Loading in one thread while another forks.

A module that is being imported is locked. A process that is forked at that moment has the lock
and not the thread that would open it, so it waits for ever once it imports the module itself. What
is loaded by a first call is loaded inside `loading`, and a fork waits until that is done.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# A thread that forks in the middle of an import may itself hold up what is being loaded.
PATIENCE = 60.0  # seconds

_condition = threading.Condition(threading.RLock())
_threads: list[int] = []  # that load, once for each `loading` they are in


@contextmanager
def loading() -> Iterator[None]:
    """Keep other threads from forking meanwhile. Loading threads do not wait for each other."""
    me = threading.get_ident()
    with _condition:
        _threads.append(me)
    try:
        yield
    finally:
        with _condition:
            _threads.remove(me)
            _condition.notify_all()


def _before() -> None:
    me = threading.get_ident()
    _condition.acquire()  # until after the fork: who begins to load meanwhile waits
    _condition.wait_for(lambda: all(thread == me for thread in _threads), PATIENCE)


def _after_in_parent() -> None:
    _condition.release()


def _after_in_child() -> None:
    me = threading.get_ident()
    _threads[:] = [thread for thread in _threads if thread == me]
    _condition.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
