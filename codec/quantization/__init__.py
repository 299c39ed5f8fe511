"""Finite scalar quantization, plain and residual."""
