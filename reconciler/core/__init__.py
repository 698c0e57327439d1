"""
Pure decisions, without I/O.

Here live the decisions: how records become desired state, which fields differ and which to write, which document is
next, how long to wait, how many requests to send at once. Values in, values out; the few classes with a memory (queue,
limiter, breaker) change it synchronously and return the caller's next step.

Never here: async, clocks, chance, I/O or logging. Time comes in as an argument, `now_us` (wall, since 1970) where times
are stored and `now_s` (monotonic) where they are not; chance comes in as a number in [0, 1).
"""
