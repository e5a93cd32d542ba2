"""Parts of self-contained pages: shell, figures, style."""
