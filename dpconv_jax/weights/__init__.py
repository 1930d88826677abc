"""Weight files: our own `.safetensors`, and the feature network of the style loss."""
