"""
Pure verbs: what is decided, apart from where it comes from and what is done about it.

Here live the decisions: how records become desired state, what differs and what to write, what is looked at next, how
long to wait, how much to ask of a server at once. Values in, values out; the few classes with a memory (queue, limiter,
breaker) change it synchronously and return what the caller is to do.

Never here: async, clocks, chance, I/O or logging. Time comes in as an argument, `now_us` (wall, since 1970) where times
are stored and `now_s` (monotonic) where they are not; chance comes in as a number in [0, 1).
"""
