"""Manifests of images and audio: what belongs together, how large it is, what is there twice, what cannot be read."""
