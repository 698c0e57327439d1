"""How an attempt ends: the next base, the evidence, and when the document is looked at again."""
