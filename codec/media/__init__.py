"""Media files to arrays and back, by PyAV."""
