"""What a chip is: its file, its levels and codes, its ideal converters; all that truth and belief share."""
