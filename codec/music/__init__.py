"""Music and general sound at 48 kHz in stereo: a transform coder (research, no model yet)."""
