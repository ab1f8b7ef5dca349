"""A month in the life of an installation, with real parts and a clock that is moved; troubles at random times."""
