"""Tests of the ways out, against real servers on loopback; only faults are played by a script."""
