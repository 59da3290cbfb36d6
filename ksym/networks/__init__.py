"""What the Keras backends share: layouts of images and kernels, loops over time steps."""
