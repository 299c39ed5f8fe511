"""Speed, memory and bits, measured on this machine: what `fsqcodec bench` shows."""
