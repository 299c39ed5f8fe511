"""Picture and video networks: space-to-depth, cheap convolutions at 1/8 and 1/16 of the resolution."""
