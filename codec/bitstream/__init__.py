"""The `.fsq` file: bytes only."""
