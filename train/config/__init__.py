"""Settings of a run: YAML files checked against dataclasses."""
