"""The end of an attempt: the next base, the evidence, and the time of the next attempt."""
