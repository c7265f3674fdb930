"""The network that is the same for every sampler: backbone, temporal attention, classifier."""
