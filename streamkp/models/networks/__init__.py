"""Architectures in torch."""
