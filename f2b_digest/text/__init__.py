"""Sanitizing and redacting hostile text. No I/O here."""
