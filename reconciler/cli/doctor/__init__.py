"""What `reconciler doctor` checks: the store, the log and Windchill, one module each."""
