"""The program `reconciler`: its commands, in the order in which `--help` lists them."""

from reconciler.cli import framework
from reconciler.cli.commands.adopt import adopt
from reconciler.cli.commands.audit import audit
from reconciler.cli.commands.completion import completion
from reconciler.cli.commands.config import config
from reconciler.cli.commands.conflicts import conflicts
from reconciler.cli.commands.dead_letters import dead_letters
from reconciler.cli.commands.demo import demo
from reconciler.cli.commands.docs import docs
from reconciler.cli.commands.doctor import doctor
from reconciler.cli.commands.emit import emit
from reconciler.cli.commands.explain import explain
from reconciler.cli.commands.export import export
from reconciler.cli.commands.hotspots import hotspots
from reconciler.cli.commands.maintenance import maintenance
from reconciler.cli.commands.notify import notify
from reconciler.cli.commands.observed import observed
from reconciler.cli.commands.plan import plan
from reconciler.cli.commands.policy import policy
from reconciler.cli.commands.prune import prune
from reconciler.cli.commands.rebuild import rebuild
from reconciler.cli.commands.replay import replay
from reconciler.cli.commands.restore import restore
from reconciler.cli.commands.revert import revert
from reconciler.cli.commands.run import run
from reconciler.cli.commands.simulate import simulate
from reconciler.cli.commands.snapshot import snapshot
from reconciler.cli.commands.source import source
from reconciler.cli.commands.status import status
from reconciler.cli.commands.store import store
from reconciler.cli.commands.token import token
from reconciler.cli.commands.writes import writes

main = framework.Root(
    name="reconciler",
    help="Bring the metadata of Windchill documents to the state that change events ask for, and lose no one's edit.",
    epilog=framework.example(
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
    observed,
    explain,
    status,
    docs,
    writes,
    maintenance,
    hotspots,
    conflicts,
    dead_letters,
    emit,
    adopt,
    revert,
    replay,
    snapshot,
    restore,
    rebuild,
    prune,
    store,
    export,
    audit,
    policy,
    source,
    notify,
    simulate,
    doctor,
    config,
    token,
    completion,
):
    main.add_command(_command)
