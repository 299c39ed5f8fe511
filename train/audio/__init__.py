"""Training of models for sound."""
