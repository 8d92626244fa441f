"""Importers of public checkpoint formats, one per file."""
