"""Signed manifests: author, verify, fetch, stage and apply."""

__all__: list[str] = []
