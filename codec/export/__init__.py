"""Networks for other engines."""

from .onnx import export, with_onnx

__all__ = ["export", "with_onnx"]
