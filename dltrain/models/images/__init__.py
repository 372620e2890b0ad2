"""Models of images: classifiers, autoencoders and GANs."""
