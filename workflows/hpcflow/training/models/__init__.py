"""Networks. Its modules import TensorFlow and are loaded inside the training job alone."""
