"""Tests of f2b_digest.rendering and of the built-in templates."""
