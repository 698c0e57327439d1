"""What is looked at next, how long waits last, and how much a server is asked at once."""
