"""Which implementation is active for a key, why that one, and how to change it without dropping a call."""
