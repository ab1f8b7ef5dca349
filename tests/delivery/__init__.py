"""Tests of f2b_digest.delivery."""
