"""Scheduling: which document is next, how long waits last, and how many requests a server gets at once."""
