"""Secrets for Oneiric: environment and files behind one Protocol."""

__all__: list[str] = []
