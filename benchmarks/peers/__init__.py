"""
What `fold-kafka` is compared with: others who fold the same topic, and limits that do less than the job.

Each side runs in a process of its own, keeps for each field the value of the newest event, and returns a digest of
what it kept, so that no side is fast because it is wrong. What none of them does: check events, keep who set a field
and why, set aside what it can't read, or notice that a log was replaced.
"""
