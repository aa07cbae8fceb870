"""The long figures: a module each, run by ``scripts/soak NAME``."""
