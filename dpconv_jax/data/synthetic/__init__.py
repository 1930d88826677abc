"""Drawn garments, for the demo and the tests: nothing needs to be downloaded."""
