"""Tests of faults that are not mended yet: a pattern of their names, and why. Each must fail while it is named here."""

WAITING: dict[str, str] = {}
