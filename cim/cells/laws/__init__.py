"""Shapes of the errors of programmed cells: one file each, ours and those of installed packages alike."""
