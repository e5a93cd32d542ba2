"""The compiled network: levels on macros, integer steps between them, its file, and its execution."""
