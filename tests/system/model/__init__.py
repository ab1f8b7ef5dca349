"""A model of the whole in plain Python, and a machine that drives both and compares."""
