"""Whatever a command says in these tests fits 60, 80 and 120 columns."""
