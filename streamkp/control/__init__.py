"""The HTTP server of a run: health, metrics and statistics, for every graph, whatever it publishes with."""
