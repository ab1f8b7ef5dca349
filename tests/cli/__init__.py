"""Tests of f2b_digest.cli, command by command."""
