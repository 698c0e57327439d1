"""Decisions explained: the narrative and its phrases, the trail and its backtest, notices, and series for plots."""
