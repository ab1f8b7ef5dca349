"""Tests of the channels, against real servers on loopback; only faults are scripted."""
