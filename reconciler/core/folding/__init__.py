"""How events become rows: the join of claims, and what else changes a stored row."""
