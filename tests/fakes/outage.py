"""A Windchill that is away, as the breaker sees it."""

import itertools

from reconciler.core.scheduling.breaker import Breaker, RequestResult, What


def opened(breaker: Breaker, now_s: float = 0.0) -> None:
    """Let all requests of now fail, each about a document of its own, until none passes any more."""
    for number in itertools.count():
        leave = breaker.try_pass(now_s)
        if leave is None:
            return
        breaker.report(leave, RequestResult.FAILURE, now_s, 0.5, What(f"document {number}"))
