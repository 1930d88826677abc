"""Weight files: our own `.safetensors`, and the networks that others publish."""
