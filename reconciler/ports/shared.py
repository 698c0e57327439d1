"""What all replicas of a store share besides documents and slots: the write budget, and the policy in force."""

from typing import Protocol

import attrs

from reconciler.model.policy import Policy


class Spending(Protocol):
    """The write budget: comparisons may write to so many documents in any window (`WriteBudget` has the rule)."""

    async def wait_s(self, key: str) -> float:
        """Count a document that is about to be written, and return 0; or return the seconds until there is room."""


@attrs.frozen
class Chosen:
    """The policy by which all replicas decide; `number` counts the policies that were put in force."""

    number: int
    digest: str
    policy: Policy


class Shared(Protocol):
    """What replicas agree on in the store."""

    def spending(self, documents_max: int, window_s: float) -> Spending:
        """Return the write budget of all replicas together, for at least one document in a window."""

    async def in_force(self) -> Chosen | None:
        """Return the policy in force; None if no policy ever was."""

    async def put_in_force(self, digest: str, policy: Policy, after: int) -> bool:
        """
        Keep a policy and put it in force, unless the policy in force is not (any more) the one with number `after`.

        0 stands for none. Returns whether that was done. From then on an intent that names another policy is refused.
        """
