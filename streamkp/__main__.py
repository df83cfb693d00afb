"""`python -m streamkp` is the program `streamkp`."""

from streamkp.cli import main

main()
