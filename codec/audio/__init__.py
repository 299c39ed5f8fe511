"""Audio networks: short-time spectra in, ConvNeXt-like blocks, short-time spectra out."""
