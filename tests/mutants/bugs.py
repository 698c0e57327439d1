"""
Bugs with a name: mistakes that tests, the simulation or both once missed, each as a change of the source.

Each is an exact text and what stands there instead; `test_mutants.py` sees to it that each still fits the code.
"""

import attrs

from tests.mutants.targets import ATTEMPTS as _ATTEMPTS
from tests.mutants.targets import DECIDING as _DECIDING


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
            raise ValueError(f"{self.name}: its text stands {found} times in {self.path}, so it has to be written anew")
        return source.replace(self.before, self.after)


_MERGE, _ELEMENTS, _PLAN, _RETRYING, _RESOLUTION = (
    f"reconciler/core/planning/{name}.py" for name in ("merge", "elements", "plan", "retrying", "resolution")
)
_FOLD, _SETTLE = "reconciler/core/folding/fold.py", "reconciler/core/settling/settle.py"
_ATTEMPT, _RECOVERY = "reconciler/flows/attempt.py", "reconciler/flows/recovery.py"

BUGS: tuple[Bug, ...] = (
    # ------------------------------------------------------------------------------------------------------ deciding
    Bug(
        "a whole second counts as its beginning",
        _MERGE,
        "if moves.modified_at.endswith(_WHOLE_SECOND):",
        "if False:",
    ),
    Bug("an edit at the event's own time loses", _MERGE, "return moves.claimed_at > ", "return moves.claimed_at >= "),
    Bug("a yielded value is written again", _MERGE, "Case.NEITHER: (_W, _K, _K,", "Case.NEITHER: (_W, _W, _W,"),
    Bug(
        "a value that is expected stays expected once it is settled",
        _PLAN,
        "theirs=moved and not (ours and question.expected),",
        "theirs=moved and not question.expected,",
    ),
    Bug(
        "an element that is expected stays expected once it is settled",
        _ELEMENTS,
        "and not (ours and question.expected)",
        "and not question.expected",
    ),
    Bug(
        "a held element counts as settled",
        _ELEMENTS,
        "elements={item.text: item.claim.stamp for item in ruled if item.ruling.verb is not Verb.HOLD},",
        "elements={item.text: item.claim.stamp for item in ruled},",
    ),
    Bug(
        "a held element's base is what is there",
        _ELEMENTS,
        "return kept + [msgspec.json.decode(text) for text in sorted(held & texts(decision.base, steps))]",
        "return None if after is MISSING else after",
    ),
    Bug(
        "a list without a base is written by halves",
        _ELEMENTS,
        "if before is None and any(item.ruling.verb is Verb.HOLD for item in ruled):",
        "if False:",
    ),
    Bug(
        "a register takes away only what it names",
        _ELEMENTS,
        "yield from (text for text, stamp in agreed.elements.items() if register.stamp.follows(stamp))",
        "yield from ()",
    ),
    Bug(
        "a refusal is for ever",
        _RETRYING,
        "known.contested or known.stamp.event != decision.stamp.event:",
        "known.contested:",
        (*_DECIDING, *_ATTEMPTS),
    ),
    Bug(
        "a refusal outlives an edit of its field",
        _RETRYING,
        "return known.tries >= TRIES or normalise.equal(known.live, decision.live, ())",
        "return True",
        (*_DECIDING, *_ATTEMPTS),
    ),
    Bug(
        "a hidden value is overwritten", _PLAN, "if any(_within(name, hidden) or", "if any(False and name in hidden or"
    ),
    Bug(
        "what is adopted is not kept",
        _PLAN,
        "fields[name] = Agreed(_null(decision.live), None, elements.unwritten(decision, question.steps))",
        "pass",
    ),
    Bug(
        "a rival's version passes for our own write",
        _PLAN,
        "    if expected.token is not None:\n        return base\n    if not same_content",
        "    if not same_content",
    ),
    Bug(
        "an altered value is written over and over",
        _PLAN,
        "refused[name] = contest.altered(known, turned, at)",
        "pass",
    ),
    # ------------------------------------------------------------------------------------------------------- folding
    Bug(
        "an element outlives a later register",
        _FOLD,
        "if text is None or (register is not None and _level(events) < register.stamp.level):",
        "if text is None:",
    ),
    Bug("a copy of an event counts where it came last", _FOLD, "return claim.stamp < old.stamp", "return True"),
    Bug(
        "a copy of an event is a newer claim",
        "reconciler/model/stamp.py",
        "return self > agreed and self.event != agreed.event",
        "return self > agreed",
        _DECIDING,
    ),
    Bug(
        "a claim that loses by its place alone is let go",
        _FOLD,
        "return Field(register, elements or NO_ELEMENTS, tuple(rivals))",
        "return Field(register, elements or NO_ELEMENTS)",
    ),
    Bug(
        "a release covers nothing that comes late",
        _FOLD,
        "_cleared(_merged(right.fields, right.covered), floor, cut))",
        "_merged(right.fields, right.covered))",
    ),
    # ------------------------------------------------------------------------------------------------------ settling
    Bug(
        "version conflicts before a success or a refusal count on",
        _SETTLE,
        "attrs.evolve(case.document.agreement, failures=0, clashes=0, cooldowns=0, stable=0, setback=None)",
        "attrs.evolve(case.document.agreement, failures=0, cooldowns=0, stable=0, setback=None)",
    ),
    Bug(
        "a contended document cools down after every further version conflict",
        _SETTLE,
        "attrs.evolve(agreement, clashes=0, cooldowns=cooldowns + 1)",
        "attrs.evolve(agreement, cooldowns=cooldowns + 1)",
    ),
    Bug(
        "a write in doubt is forgotten while it may still come",
        _SETTLE,
        "doubt = old.intent if old.intent is not None and old.intent.token == after.token else None",
        "doubt = None",
    ),
    Bug(
        "a write in doubt is kept after the document has moved on",
        _SETTLE,
        "doubt = old.intent if old.intent is not None and old.intent.token == after.token else None",
        "doubt = old.intent",
    ),
    Bug(
        "an agreement is told under the number of the one before",
        _SETTLE,
        "untold, number = False, number + 1",
        "untold = False",
    ),
    # ---------------------------------------------------------------------------------------------------- attempting
    Bug(
        "a write of which some fields are there was applied",
        _ATTEMPT,
        "applied = sent.fields if len(there) == len(sent.fields) else applied",
        "applied = sent.fields if there else applied",
    ),
    Bug(
        "a rival's edit beside our write passes for ours",
        _ATTEMPT,
        "if applied and planning.same_content(",
        "if applied or planning.same_content(",
    ),
    Bug(
        "a cached snapshot is believed after a version conflict",
        _ATTEMPT,
        "agreement.intent is not None or agreement.clashes or",
        "agreement.intent is not None or",
    ),
    Bug(
        "a 503 leaves nothing in doubt",
        _ATTEMPT,
        "case.document.agreement.intent if answer.status == 429 else intent",
        "case.document.agreement.intent",
    ),
    Bug(
        "what was withdrawn takes an earlier doubt with it",
        _ATTEMPT,
        "self._agreement(self._began.document.agreement.intent)",
        "self._agreement(None)",
    ),
    Bug(
        "only the last of several writes in doubt is remembered",
        _ATTEMPT,
        "sent = (*doubt.earlier, attrs.evolve(doubt, earlier=()))",
        "sent = (attrs.evolve(doubt, earlier=()),)",
    ),
    Bug(
        "a decision under the lock leaves the plan as it was",
        _ATTEMPT,
        "self.case, self.plan = case, plan",
        "self.case = case",
    ),
    Bug(
        "a decision under the lock is not stored",
        _ATTEMPT,
        "self.intent = self._intent(self.intent.lock)\n        await self.begin()\n        return plan.fields",
        "self.intent = self._intent(self.intent.lock)\n        return plan.fields",
    ),
    # ----------------------------------------------------------------------------------------------------- resolving
    Bug(
        "an element that a decision takes away comes back",
        _RESOLUTION,
        'said.append({"remove": {conflict.field: removed}, "reason": reason})',
        "pass",
    ),
    Bug(
        "a decision takes away elements that nobody manages",
        _RESOLUTION,
        "if text(element) in managed and text(element) not in kept]",
        "if text(element) not in kept]",
    ),
    Bug(
        "a decision makes the users' elements ours",
        _RESOLUTION,
        "to_set = [element for element in _listed(wanted) if text(element) not in theirs]",
        "to_set = _listed(wanted)",
    ),
    Bug(
        "a decision on elements without a register fails",
        _RESOLUTION,
        "if register is not None and register.managed:",
        "if register.managed:",
    ),
    # ---------------------------------------------------------------------------------------------------- recovering
    Bug("recovery keeps all outcomes in memory", _RECOVERY, "return self._bytes >= _BYTES_MAX", "return False"),
    Bug(
        "recovery does not count what it keeps",
        _RECOVERY,
        "self._bytes += len(record.value) - (0 if known is None else len(known[1]))",
        "pass",
    ),
    Bug(
        "recovery counts what it has stored",
        _RECOVERY,
        "last, self._last, self._bytes = self._last, {}, 0",
        "last, self._last = self._last, {}",
    ),
    Bug("recovery counts what a later outcome replaced", _RECOVERY, " - (0 if known is None else len(known[1]))", ""),
    Bug(
        "recovery takes what the store knows better",
        _RECOVERY,
        "if old != NO_AGREEMENT and old.told >= found.number:",
        "if False:",
    ),
)
