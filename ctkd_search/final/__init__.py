"""Final training: a config trained on all training images with fresh seeds, and measured once on the test images."""
