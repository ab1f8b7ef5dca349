"""Tests, in the folders of the package they test; system/ tests the whole program, project/ the repository."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""
