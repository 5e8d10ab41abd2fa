"""What runs inside a training job. Importing this package imports no TensorFlow; its ``__main__`` does."""
