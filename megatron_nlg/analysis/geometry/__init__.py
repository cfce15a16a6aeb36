"""Geometry of representations: similarity of blocks, dimensions that dominate, and what a classifier needs of them."""
