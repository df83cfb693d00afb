"""`python -m streamkp` is the program `streamkp`."""

from streamkp.cli.main import main

main()
