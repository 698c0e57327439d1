"""
Frozen values: the terms of the problem (ARCHITECTURE.md) as types.

Here live the values that all other layers exchange, with the few pure questions that a value can answer about itself.
Never here: decisions (they are in `core`), I/O, clocks, chance, or a library that talks to anything.
"""
