"""Tests of what is published and installed: the Debian package and its repository, wheel and sdist."""
