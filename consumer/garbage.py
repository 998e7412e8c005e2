"""How often Python looks for garbage, in processes that work through many small objects."""

import gc


def calm_garbage_collector() -> None:
    """
    Collect less often, and leave alone what lives as long as the process.

    Hardly anything of a delivery is cyclic, and looking through it again and
    again took a tenth of the worker's time (``make bench ONLY=stages``).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
    gc.enable()
