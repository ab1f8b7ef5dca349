"""Tests of f2b-digest, against real parts where there are any."""
