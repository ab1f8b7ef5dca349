"""Days and weeks of an admin: each plants a fact, which must stand in the subject or in the first five lines."""
