"""File to file: what the commands do to a file that is open already."""
