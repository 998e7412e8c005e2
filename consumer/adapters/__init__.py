"""One vendor a module, and its only importer."""
