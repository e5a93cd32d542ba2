"""What a command puts on a terminal: lines, errors, and progress."""
