"""Bitrate against quality: our models and the codecs that people use today, on any files."""
