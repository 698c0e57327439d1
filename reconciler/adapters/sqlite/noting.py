"""Noting: the statement that stores from where on everything is signed, and queues what announces it."""

from reconciler.adapters.sqlite.procedures import Procedure

NOTE = Procedure(
    "note from where on everything is signed",
    "signing_note",
    ("noted", "message"),
    (
        """INSERT INTO signing (one, noted) VALUES (1, NEW.noted)
            ON CONFLICT (one) DO UPDATE SET noted = excluded.noted""",
        "INSERT INTO outbox (message) VALUES (NEW.message)",
    ),
)
