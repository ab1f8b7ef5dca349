"""f2b-digest: one digest of what fail2ban banned. Only the version lives here."""

__version__ = "0.1.0"
