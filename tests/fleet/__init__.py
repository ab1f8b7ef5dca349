"""A fleet: its centre on a real PostgreSQL, and the upload of its hosts."""
