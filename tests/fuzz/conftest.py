"""How hard these tests try: as the profile says, or as `make fuzz` does."""

import os

import hypothesis

if wanted := os.environ.get("FUZZ_EXAMPLES"):
    everything = list(hypothesis.HealthCheck)  # a slow machine is no finding
    hypothesis.settings.register_profile(
        "fuzz", max_examples=int(wanted), deadline=None, print_blob=True, suppress_health_check=everything
    )
    hypothesis.settings.load_profile("fuzz")
