"""How weights are moved: Muon, and optimizer steps as CUDA graphs."""
