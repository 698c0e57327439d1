"""
Flows: thin async shells around the core. Ingest, reconcile, resync, outbox, replay.

A flow fetches inputs through ports, asks the core, and carries out the answer. Never here: domain decisions, a client
library, a clock of its own, tasks of its own (the composition root owns every task).
"""
