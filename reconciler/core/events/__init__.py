"""What records say: change events coming in, checked and decoded, and outcomes going out."""
