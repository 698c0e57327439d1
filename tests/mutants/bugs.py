"""
Bugs with a name: mistakes that tests, the simulation or both once missed, each as a change of the source.

Each is an exact text and its replacement; `test_mutants.py` checks that each still fits the code.
"""

import attrs

from tests.mutants.targets import ATTEMPTS, DECIDING


@attrs.frozen
class Bug:
    """A mistake in a module. `before` is in the source just once; `tests` are other ones than the module's."""

    name: str
    path: str
    before: str
    after: str
    tests: tuple[str, ...] = ()

    def planted(self, source: str) -> str:
        """Return the module's text with the mistake."""
        found = source.count(self.before)
        if found != 1:
            raise ValueError(f"{self.name}: its text is {found} times in {self.path}, so it has to be written again")
        return source.replace(self.before, self.after)


_BUGS: dict[str, dict[str, tuple[str, str]]] = {
    # module: what goes wrong: a text that is in its source just once, and its replacement
    "reconciler/core/planning/merge.py": {
        "a whole second counts as its beginning": ("if moves.modified_at.endswith(_WHOLE_SECOND):", "if False:"),
        "an edit at the event's own time loses": ("return moves.claimed_at > ", "return moves.claimed_at >= "),
        "a yielded value is written again": ("ReasonCode.NEITHER: (_W, _K, _K,", "ReasonCode.NEITHER: (_W, _W, _W,"),
    },
    "reconciler/core/planning/plan.py": {
        "a value that is expected stays expected once it is settled": (
            "theirs=moved and not (ours and question.expected),",
            "theirs=moved and not question.expected,",
        ),
        "a hidden value is overwritten": ("if any(_within(name, hidden) or", "if any(False and name in hidden or"),
        "what is adopted is not kept": (
            "fields[name] = Agreed(or_null(decision.live), None, elements.unwritten(decision, question.steps))",
            "pass",
        ),
        "a rival's version passes for our own write": (
            "    if expected.token is not None:\n        return base\n    if not same_content",
            "    if not same_content",
        ),
        "a list that is held agrees on nothing": (
            "_agreed_in_part(decision, old, steps, at) if decision.held_elements else old",
            "old",
        ),
        "an altered value is written over and over": ("refused[name] = contest.altered(known, turned, at)", "pass"),
    },
    "reconciler/core/planning/elements.py": {
        "an element that is expected stays expected once it is settled": (
            "and not (ours and question.expected)",
            "and not question.expected",
        ),
        "a held element counts as settled": (
            "elements={item.text: item.claim.stamp for item in ruled if item.ruling.verb is not Verb.HOLD},",
            "elements={item.text: item.claim.stamp for item in ruled},",
        ),
        "a held element's base is what is there": (
            "return kept + [msgspec.json.decode(text) for text in sorted(held & texts(decision.base, steps))]",
            "return None if after is MISSING else after",
        ),
        "a list without a base is written by halves": (
            "if before is None and any(item.ruling.verb is Verb.HOLD for item in ruled):",
            "if False:",
        ),
        "a register takes away only what it names": (
            "yield from (text for text, stamp in agreed.elements.items() if register.stamp.follows(stamp))",
            "yield from ()",
        ),
    },
    "reconciler/core/planning/retrying.py": {
        "a refusal is final": (
            "known.contested or known.stamp.event != decision.stamp.event:",
            "known.contested:",
        ),
        "a refusal outlives an edit of its field": (
            "return known.tries >= TRIES or normalise.equal(known.live, decision.live, ())",
            "return True",
        ),
    },
    "reconciler/core/folding/fold.py": {
        "an element outlives a later register": (
            "if text is None or (register is not None and _level(events) < register.stamp.level):",
            "if text is None:",
        ),
        "a copy of an event counts where it came last": ("return claim.stamp < old.stamp", "return True"),
        "a claim that loses by its place alone is let go": (
            "return Field(register, elements or NO_ELEMENTS, tuple(rivals))",
            "return Field(register, elements or NO_ELEMENTS)",
        ),
        "a release covers nothing that comes late": (
            "_cleared(_merged(right.fields, right.covered), floor, cut))",
            "_merged(right.fields, right.covered))",
        ),
    },
    "reconciler/model/stamp.py": {
        "a copy of an event is a newer claim": (
            "return self > agreed and self.event != agreed.event",
            "return self > agreed",
        ),
    },
    "reconciler/core/settling/doubts.py": {
        "only the last of several writes in doubt is remembered": (
            "(*intent.earlier, structs.replace(intent, earlier=()))",
            "(structs.replace(intent, earlier=()),)",
        ),
        "a new token rules out an action": (
            "if one.token == token or (one.action and not _is_over(one, read_us)))",
            "if one.token == token)",
        ),
    },
    "reconciler/core/settling/settle.py": {
        "a release ends the doubt of a write that may still come": (
            "doubt = case.document.agreement.intent  # no read",
            "doubt = None  # no read",
        ),
        "version conflicts before a success or a refusal count on": (
            "structs.replace(case.document.agreement, failures=0, clashes=0, cooldowns=0, stable=0, setback=None)",
            "structs.replace(case.document.agreement, failures=0, cooldowns=0, stable=0, setback=None)",
        ),
        "a contended document cools down after every further version conflict": (
            "structs.replace(agreement, clashes=0, cooldowns=cooldowns + 1)",
            "structs.replace(agreement, cooldowns=cooldowns + 1)",
        ),
        "a write in doubt is forgotten while it may still come": (
            "doubt = doubts.standing(old.intent, after.token, ",
            "doubt = None and (",
        ),
        "a write in doubt is kept after the document has moved on": (
            "doubt = doubts.standing(old.intent, after.token, ",
            "doubt = old.intent or (",
        ),
        "an agreement is told under the number of the one before": (
            "number = before.told + tells",
            "number = before.told",
        ),
    },
    "reconciler/flows/attempt.py": {
        "a write of which some fields are there was applied": (
            "last = sent if len(there) == len(sent.fields) else last",
            "last = sent if there else last",
        ),
        "a rival's edit beside our write passes for ours": (
            "if applied and planning.same_content(",
            "if applied or planning.same_content(",
        ),
        "a cached snapshot is believed after a version conflict": (
            "agreement.intent is not None or agreement.clashes or",
            "agreement.intent is not None or",
        ),
        "a throttled write that may have been applied leaves nothing in doubt": (
            "case Throttled(perhaps_applied=True):",
            "case Throttled(perhaps_applied=None):",
        ),
        "what was withdrawn takes an earlier doubt with it": (
            "self._agreement(self._began.document.agreement.intent)",
            "self._agreement(None)",
        ),
        "a decision under the lock leaves the plan as it was": (
            "self.case, self.plan, self._token = case, plan, shown.token or self._token",
            "self.case = case",
        ),
        "a decision under the lock is not stored": (
            "self.intent = self._intent(self.intent.lock)\n        await self._store()\n        return plan.fields",
            "self.intent = self._intent(self.intent.lock)\n        return plan.fields",
        ),
    },
    "reconciler/core/planning/resolution.py": {
        "an element that a decision takes away comes back": (
            'said.append({"remove": {conflict.field: removed}, "reason": reason})',
            "pass",
        ),
        "a decision takes away elements that no claim manages": (
            "if text(element) in managed and text(element) not in kept]",
            "if text(element) not in kept]",
        ),
        "a decision makes the users' elements ours": (
            "to_set = [element for element in elements.listed(wanted) if text(element) not in theirs]",
            "to_set = elements.listed(wanted)",
        ),
        "a decision on elements without a register fails": (
            "if register is not None and register.managed:",
            "if register.managed:",
        ),
    },
    "reconciler/flows/recovery.py": {
        "recovery keeps all outcomes in memory": ("return self._bytes >= _BYTES_MAX", "return False"),
        "recovery does not count what it keeps": (
            "self._bytes += len(record.value) - (0 if known is None else len(known[1]))",
            "pass",
        ),
        "recovery counts what it has stored": (
            "last, self._last, self._bytes = self._last, {}, 0",
            "last, self._last = self._last, {}",
        ),
        "recovery counts what a later outcome replaced": (" - (0 if known is None else len(known[1]))", ""),
        "recovery takes what the store knows better": (
            "if old != NO_AGREEMENT and old.told >= found.number:",
            "if False:",
        ),
    },
}
_TESTS = {
    "reconciler/core/planning/retrying.py": (*DECIDING, *ATTEMPTS),
    "reconciler/model/stamp.py": DECIDING,
}
"""Those of modules that are not changed otherwise."""

BUGS = tuple(
    Bug(name, path, before, after, _TESTS.get(path, ()))
    for path, found in _BUGS.items()
    for name, (before, after) in found.items()
)
