"""The same work for many runs, on all processors: one process per processor, one run at a time in each.

In: a function and what it is to be called with. Out: the results, as they come. Memory is bounded by what one run takes, times the
processes: no more runs are handed out than are worked at, and results that nobody has taken yet are few.

Processes are spawned, not forked: whoever calls may have threads (an event loop, Arrow's pool). They end with whoever started them, also
when that is killed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import TypeVar

from otel_control_gym.engine.errors import DatasetError

__all__ = ("in_processes",)

_AHEAD = 2  #: runs handed out per process, so that none waits for the next

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(work: Callable[[Item], Result], items: Sequence[Item], *, processes: int) -> Iterator[Result]:
    """Yield what `work` returns for each item, in the order in which they are done.

    With one process the work is done here, in order. `work` is a function of a module, items and results can be pickled.

    Raises: DatasetError: a process was killed. Whatever `work` raises: what isn't begun then is left.
    """
    if processes <= 1 or len(items) <= 1:
        yield from map(work, items)
        return
    count = min(processes, len(items))
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        waiting = iter(items)
        under_way: set[Future[Result]] = set()
        while True:
            for item in waiting:
                under_way.add(pool.submit(work, item))
                if len(under_way) >= _AHEAD * count:
                    break
            if not under_way:
                return
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise DatasetError(
            "a process that worked on runs was ended from outside, perhaps for lack of memory\n  the same command goes on where it was"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Let this process end when the one that started it is gone: the pool alone would wait for work for ever."""
    threading.Thread(target=_watch_parent, daemon=True).start()


def _watch_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
