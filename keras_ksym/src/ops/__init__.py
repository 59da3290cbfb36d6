"""The functions of the backend on tensors, in the modules in which Keras has them."""
