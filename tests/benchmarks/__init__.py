"""Benchmarks: programs that print ratios, not tests with a time limit."""
