"""Terminal output of commands: lines, errors and progress."""
