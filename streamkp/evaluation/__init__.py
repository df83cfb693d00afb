"""How accurate a model is: `streamkp eval`."""
