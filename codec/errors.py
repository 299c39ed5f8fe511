"""Errors that are a user's to mend: one line that names the file and the remedy."""


class FSQCodecError(Exception):
    """Base of all errors that the command line shows without a traceback."""


class MediaError(FSQCodecError):
    """A media file cannot be read or written."""


class BitstreamError(FSQCodecError):
    """A `.fsq` file is damaged, truncated, hostile, or made with another model."""


class ModelError(FSQCodecError):
    """A model is unknown, or its file is damaged."""


class ConfigError(FSQCodecError):
    """A training configuration is wrong."""
