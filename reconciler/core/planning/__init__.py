"""What to write and why: desired, live and base compared field by field."""
