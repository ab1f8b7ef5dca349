"""`python -m f2b_digest`."""

from f2b_digest.cli import main

main()
