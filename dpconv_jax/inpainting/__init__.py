"""How a photo is filled: texture from the photo itself, guided by a network."""
