"""
Deterministic simulation: the real core, flows, daemon and SQLite store against a world in which everything goes wrong.

`python -m tests.sim --seed N` runs one world. The seed fixes everything: who does what and when, which faults strike,
in what order replies arrive, at which effect the process dies. Two runs of a seed give the same trace, byte for byte,
so a failure is a command. The world keeps its own history, and the checks ask that history, never the program's
opinion:

- `naive.py` folds the log a second time, as simply as possible;
- `oracle.py` decides every field a second time, from what the server knows of who changed what;
- `bystander.py` knows only the server's history and the published events: each write of ours needs an event;
- `checks.py` compares log, store, audit and the server's history once everything has come to rest.

What no one can tell apart is forgiven, in the open (`witness.py`): after a write whose result is unknown, a rival who
sets a field back to its old value, or to the very value that we meant to write; and what a server alters behind a reply
that does not show it.

Rules: no real time, no real chance, no threads. Whatever draws, draws from a stream of its own, so that a new kind of
fault does not change what all the others do.
"""
