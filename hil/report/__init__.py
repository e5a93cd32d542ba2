"""A run written down: folder, data, tables, figures, page."""
