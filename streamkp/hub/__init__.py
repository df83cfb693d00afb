"""Model and sample files by name: catalog, cache, downloads."""
