"""Long figures: each soak prints one JSON line and fails when its property does."""
