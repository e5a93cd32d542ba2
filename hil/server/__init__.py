"""A chip served to other programs: an emulated one, or a board of one's own."""
