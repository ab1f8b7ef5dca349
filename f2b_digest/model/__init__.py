"""Plain values that packages pass to each other. Nothing is read, computed or rendered here."""
