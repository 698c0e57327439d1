"""How long tests wait for what must come. Only a hang takes that long: on a busy machine seconds become minutes."""

HANG_S = 240.0
