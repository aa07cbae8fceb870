"""``oneiric manifest``: author, sign, verify and compare manifests."""

__all__: list[str] = []
