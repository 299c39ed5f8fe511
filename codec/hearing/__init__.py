"""What listeners notice: the terms that training minimises, and the encoder too where it may take its time."""
