"""Plain values that the rooms hand to each other. Nothing is read, computed or rendered here."""
