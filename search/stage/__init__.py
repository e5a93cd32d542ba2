"""Phase A: every candidate operator of a stage rated between its teacher's features."""
