"""``oneiric root``: whose keys are trusted, from the first document to each that follows."""

__all__: list[str] = []
