"""Tests of what fail2ban runs and of f2b_digest.fail2ban, with real servers."""
