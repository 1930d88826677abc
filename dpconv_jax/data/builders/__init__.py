"""The datasets of photos: one file each, over what they share."""
