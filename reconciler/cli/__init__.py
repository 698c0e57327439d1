"""
The command line: the only place that prints, and the only one that chooses exit codes.

Charter. Here lives one module for each command or family of commands, and what they share: `commands` (what every
command has), `options` (from options to a configuration), `output` (tables for people, JSON for programs), `exits`
(exit codes and error lines), `logs` (where log events go), `running` (coroutines), `events` (events as commands write
them). A command reads its options, calls `app` or a flow, and says what came of it; it returns its exit code, `None`
meaning 0. What it needs besides is imported when it runs, so that `--help` stays quick.

Never here: decisions about documents, or anything that another front end would need as well.
"""

from reconciler.cli import commands
from reconciler.cli.audit import audit
from reconciler.cli.caring import rebuild, restore, snapshot
from reconciler.cli.completion import completion
from reconciler.cli.config import config
from reconciler.cli.conflicts import conflicts
from reconciler.cli.dead_letters import dead_letters
from reconciler.cli.demo import demo
from reconciler.cli.docs import docs, hotspots
from reconciler.cli.doctor import doctor
from reconciler.cli.emit import emit
from reconciler.cli.explain import explain
from reconciler.cli.export import export
from reconciler.cli.plan import plan
from reconciler.cli.policy import policy
from reconciler.cli.replay import replay
from reconciler.cli.run import run
from reconciler.cli.simulate import simulate
from reconciler.cli.status import status
from reconciler.cli.token import token

main = commands.Root(
    name="reconciler",
    help="Bring the metadata of Windchill documents to the state that change events ask for, losing nobody's edit.",
    epilog=commands.example(
        "reconciler simulate --rivals 1",
        "reconciler emit 0000000001 --set status=RELEASED -c reconciler.toml",
        "reconciler run -c reconciler.toml",
        "reconciler explain 0000000001 -c reconciler.toml",
    ),
)
for _command in (
    run,
    demo,
    plan,
    explain,
    status,
    docs,
    hotspots,
    conflicts,
    dead_letters,
    emit,
    replay,
    snapshot,
    restore,
    rebuild,
    export,
    audit,
    policy,
    simulate,
    doctor,
    config,
    token,
    completion,
):
    main.add_command(_command)

__all__ = ["main"]
