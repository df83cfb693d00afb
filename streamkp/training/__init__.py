"""How the shipped lifter was trained: `python -m streamkp.training.lifter --help`."""
