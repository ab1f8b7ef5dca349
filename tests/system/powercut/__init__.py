"""Power cuts: every order in which a disk may have written."""
