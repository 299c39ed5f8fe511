"""fsqcodec: a neural codec of residual FSQ tokens, an exact range coder and a safe file format."""
