"""Whole files of pictures and sound, there and back."""
