//! Weights in fewer bits on small networks.
