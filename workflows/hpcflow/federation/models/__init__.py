"""Models whose training needs no TensorFlow."""
