"""Redis: entity state, decision documents and their index."""
