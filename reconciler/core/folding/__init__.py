"""From events to rows: the join of claims, and all other changes of a stored row."""
