"""Which modules are changed, and which tests must notice: the quick ones, in the order in which they usually do."""

DECIDING = (
    "tests/golden",
    "tests/core/test_merge.py",
    "tests/core/test_elements.py",
    "tests/core/test_fold.py",
    "tests/core/test_plan.py",
    "tests/core/test_contest.py",
)
ATTEMPTS = (
    "tests/flows/test_attempt.py",
    "tests/flows/test_locking.py",
    "tests/flows/test_resolving.py",
    "tests/flows/test_contested.py",
    "tests/flows/test_refusals.py",
)
_SETTLING = (
    "tests/flows/test_setbacks.py",
    "tests/flows/test_pacing.py",
    "tests/flows/test_doubts.py",
)
_DAEMON = (
    "tests/flows/test_sick.py",
    "tests/flows/test_recovery.py",
    "tests/flows/test_pause.py",
    "tests/flows/test_daemon.py",
)

TESTS: dict[str, tuple[str, ...]] = {
    "reconciler/core/planning/merge.py": DECIDING,
    "reconciler/core/planning/elements.py": (*DECIDING, *ATTEMPTS),
    "reconciler/core/folding/fold.py": (*DECIDING, "tests/flows/test_ingest.py"),
    "reconciler/core/folding/gathering.py": ("tests/core/test_fold.py", "tests/flows/test_ingest.py"),
    "reconciler/core/planning/plan.py": (*DECIDING, *ATTEMPTS),
    "reconciler/core/folding/rows.py": (
        "tests/core/test_rows.py",
        "tests/contracts/test_actions.py",
        "tests/contracts/test_comparing.py",
        "tests/contracts/test_store.py",
        "tests/flows/test_pause.py",
    ),
    "reconciler/core/settling/doubts.py": (*ATTEMPTS, *_SETTLING),
    "reconciler/core/settling/settle.py": (*ATTEMPTS, *_SETTLING, *_DAEMON),
    "reconciler/core/planning/resolution.py": ("tests/core/test_resolution.py", "tests/flows/test_resolving.py"),
    "reconciler/flows/attempt.py": (*ATTEMPTS, *_SETTLING, *_DAEMON),
    "reconciler/flows/recovery.py": (
        "tests/flows/test_recovery.py",
        "tests/flows/test_replay.py",
        "tests/flows/test_clocks.py",
        "tests/flows/test_sealing.py",
    ),
}
