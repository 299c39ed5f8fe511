"""Training of models for pictures and video."""
