"""Description of a chip: its file, levels, codes and ideal converters; all that truth and belief share."""
