"""
Several replicas as real processes, on a real PostgreSQL and a real broker: killed, stopped and cut off, and judged by
what others have seen.

The workload, the weather and the judgement are those of `tests/crash`; here is what happens to replicas (`crowd`).
"""
