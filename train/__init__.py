"""Training: what is trained on what (`config`, `data`), how (`task`, `trainer`), and how well it does (`evaluation`)."""
