"""What is told of decisions: their story, their phrases, whether they come out again, and series for plots."""
