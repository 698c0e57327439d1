"""Records of the logs: change events decoded and checked, outcomes made, both signed."""
