"""Progress: how long something will take yet."""


def estimate_s(done: int, total: int | None, elapsed_s: float) -> float | None:
    """Return how long the rest takes at the pace so far; None while there is no pace to go by."""
    if total is None:
        return None
    if done >= total:
        return 0.0
    if done <= 0 or elapsed_s <= 0:
        return None
    return (total - done) * elapsed_s / done
