"""Tests of f2b_digest.checks."""
