"""Plans: a whole network as a sequence of steps that the chip runs by itself (docs/file-formats.md, *Plans*)."""
