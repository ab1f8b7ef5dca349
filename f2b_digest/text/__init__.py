"""Hostile text made fit to be shown. Nothing is read or sent here."""
