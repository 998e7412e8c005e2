"""Training: feature vectors out of the engine's own store, two models, their archives."""
