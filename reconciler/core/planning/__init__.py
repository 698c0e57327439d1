"""Decisions on fields: desired, live and base compared, the patch and its reasons."""
