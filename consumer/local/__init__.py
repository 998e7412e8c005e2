"""
The embedded stack: AWS, Redis and model endpoints on one machine, without Docker.

Each part is a real server in a process of its own, so that the daemon and its
tests talk to what they would talk to in production, over the network.
"""
