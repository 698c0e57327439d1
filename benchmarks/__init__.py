"""
Benchmarks: what the program costs, each number as a ratio to a bare loop that does the least possible, in the same run.

Rates alone say more about a machine than about a program, and on a shared machine not even that; so every measurement
has a rival that is measured in turn with it, A B A B, each time in a fresh process. Never here: a test with a deadline.
`RESULTS.md` keeps the last results, with the machine named and every shortfall explained.
"""
