"""Holes filled with patches of the same photo: the engine of the baseline `patchmatch` and of `inpainting/texture.py`.

Images are float32 (H, W, 3) in [0, 1], holes bool (H, W), True in the hole.
"""
