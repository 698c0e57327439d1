"""What all replicas share besides documents and slots: one row with the policy in force, and the write budget."""

import attrs

from reconciler.adapters.postgres.server import Server
from reconciler.adapters.postgres.slots import Slot, evicted
from reconciler.model import codec
from reconciler.model.policy import Policy
from reconciler.ports import Chosen, Spending

IN_FORCE = "SELECT policy_digest, stops, stop IS NOT NULL FROM control"
STOP = "SELECT stops, stop FROM control"
_CHOSEN = "SELECT policy_number, digest, policy FROM control JOIN policy ON digest = policy_digest"
# Answers whether we still have our slot (a guest needs none), and whether it was done.
_PUT_IN_FORCE = """
    WITH mine AS (SELECT id FROM slot WHERE id = $1::smallint AND epoch = $2::bigint FOR KEY SHARE),
    allowed AS (SELECT $1 IS NULL OR EXISTS (SELECT FROM mine) AS yes),
    put AS (
        UPDATE control SET policy_number = policy_number + 1, policy_digest = $3
        WHERE policy_number = $5 AND (SELECT yes FROM allowed) RETURNING policy_number
    ), kept AS (
        INSERT INTO policy (digest, policy) SELECT $3, $4 FROM put ON CONFLICT DO NOTHING
    )
    SELECT yes, EXISTS (SELECT FROM put) FROM allowed
"""


class Shared:
    """`ports.Shared` of the holder of a slot, or of a guest; the port says what each method does."""

    def __init__(self, server: Server, slot: Slot | None) -> None:
        self._server = server
        self._slot = slot

    def spending(self, documents_max: int, window_s: float) -> Spending:
        return _Budget(self._server, documents_max, window_s)

    async def in_force(self) -> Chosen | None:
        found = await self._server.fetch("read the policy in force", _CHOSEN)
        if not found:
            return None
        number, digest, text = found[0]
        return Chosen(number, digest, codec.decode_policy(text))

    async def put_in_force(self, digest: str, policy: Policy, after: int) -> bool:
        # Repeated after a lost answer, it is not done: whoever asks finds that its policy is in force.
        operation, slot = "put a policy in force", self._slot
        by = (None, None) if slot is None else (slot.slot, slot.epoch)
        found = await self._server.fetch(operation, _PUT_IN_FORCE, *by, digest, codec.encode(policy), after)
        allowed, done = found[0]
        if not allowed:
            raise evicted(operation, self._server) if slot is None else await slot.lost(operation)
        return bool(done)


@attrs.frozen
class _Budget:
    """`ports.Spending` of all replicas."""

    _server: Server
    _documents_max: int
    _window_s: float

    async def wait_s(self, key: str) -> float:
        asked = key.encode(), self._documents_max, self._window_s
        ((wait_s,),) = await self._server.fetch("count a write", "SELECT spend_1($1, $2, $3)", *asked)
        return float(wait_s)
