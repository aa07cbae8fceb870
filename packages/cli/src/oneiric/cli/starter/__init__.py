"""The starter project: files as ``oneiric init`` writes them, each with ``.in`` at the end of its name."""
