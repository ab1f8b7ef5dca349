"""Days and weeks of an admin: each plants a fact, which must be in the subject or in the first five lines."""
