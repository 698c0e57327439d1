"""
The edges: one client library, one home.

Here live the classes that satisfy `reconciler.ports`: they speak to brokers, files, databases, servers and clocks, and
translate those libraries' errors once, into `reconciler.errors`. Never here: decisions about documents (`core`), the
order of steps (`flows`), or one adapter knowing of another.
"""
