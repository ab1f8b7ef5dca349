"""Tests of the repository: its documents, its package, its habits."""
