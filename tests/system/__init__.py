"""Tests of the whole program: on real servers, under faults, over simulated weeks."""
