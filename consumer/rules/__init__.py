"""Versioned rules in CEL: read, checked, compiled to one expression, reloaded and watched."""
