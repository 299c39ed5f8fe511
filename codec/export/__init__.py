"""Networks for other engines."""
