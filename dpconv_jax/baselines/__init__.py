"""Inpainting without learning, to compare against."""
