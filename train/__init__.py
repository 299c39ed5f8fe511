"""Training: on what (`data`), of what (`task`), how (`trainer`), and how well it does (`evaluation`)."""
