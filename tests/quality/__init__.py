"""``make quality``: what the models of this package reach on the public handbook's data."""
