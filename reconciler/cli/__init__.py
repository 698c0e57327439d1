"""
The command line: the only place that prints, and the only one that chooses exit codes.

Charter. `commands/` has one module for each command, named as the command. Beside it stands what commands share:
`framework` (what every command has), `options` (from options to a configuration), `output` (tables for people, JSON for
programs), `runtime` (exit codes, stderr, the event loop), `log_output` (where log events go), `store_access` and
`actions` (reading the store, changing it), `events` (events as commands write them), `log_replay` (folding whole
logs) with `projections`, `files` and `archive_lines` (exports). `doctor/` and `demo/` have what those two commands do.

A command reads its options, calls `app` or a flow, and reports the result; it returns its exit code, `None` meaning 0.
What it needs besides is imported when it runs, so that `--help` stays quick.

Never here: decisions about documents, or anything that another front end would need as well.
"""

from reconciler.cli.program import main

__all__ = ["main"]
