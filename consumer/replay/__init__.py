"""History through the engine: sources, mapping, order; targets, pace and resume."""
