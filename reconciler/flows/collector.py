"""The garbage collector's pause while a batch is folded: the only place that turns the collector off."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """
    Keep the collector of reference cycles off, and leave it as it was found, also after an error.

    A batch keeps hundreds of thousands of values until it is stored, and none is in a cycle. The collector would look
    at all of them again and again. Cycles that others leave meanwhile wait for the end of the transaction.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
