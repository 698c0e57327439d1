"""
Frozen values: the words of the problem (ARCHITECTURE.md) as types.

Here live the shapes that every other layer speaks in, and the few pure questions a value can answer about itself.
Never here: decisions (they are in `core`), I/O, clocks, chance, or a library that talks to anything.
"""
