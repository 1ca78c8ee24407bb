"""A submission becomes an image digest; `setup` makes the images that everything else builds on."""
