"""
The fault suite: known traffic, faults while the real worker runs, and a check of everything.

``make chaos`` runs all cases, ``ONLY=name-part`` some; ``CHAOS_SEED=`` repeats a run (the seed
is printed; event times move with the clock). The report is ``.chaos/report.json``.

How to write a case
-------------------
A group is a module in ``cases/``; every function decorated with ``case`` is one case::

    @case("redis/cut before the documents", "no decision is lost or made twice")
    def _cut_before_documents(arena: Arena) -> None:
        with arena.proxy() as proxy:
            proxy.disturb(Disturbance(How.CUT_BEFORE, b"fraudstream_decide", nth=7))
            arena.shard(Mix(hot=True)).work(REDIS__URL=proxy.url)

The case only drives; the runner then compares everything with the oracle, and fails the case
when anything differs or nothing was injected. What there is:

- ``arena.shard(mix, faults=…, **settings)`` (``shard.py``, ``traffic.py``): a shard with traffic
  of its own. ``.work()`` delivers all of it, starts a dead worker again at the last checkpoint,
  and drains. ``.owner()`` gives single workers, for two at a time. ``.replies`` plans what
  checkpoints are answered. Every checkpoint is checked against what it covers as it arrives.
- ``faults=[Fault(Port.DECIDE, 3, When.AFTER, Act.UNAVAILABLE)]`` (``faults.py``): inside the
  worker, at the n-th call of a port. Steps are taken in order, across restarts.
- ``arena.proxy()`` (``proxy.py``): Redis cut, delayed, refused or lying by command.
- ``arena.lab.gateway.fail(HttpFault("PUT /bucket", Fails.REFUSED))`` (``gateway.py``): S3, Firehose
  and the other AWS services of the worker. Healed after the case.
- ``arena.lab.endpoints`` and ``arena.lab.firehose``: the scripted servers, ``plan`` and ``always``.
- ``arena.count.note()`` for what a case does by hand (a signal); ``arena.choice`` for chance;
  ``arena.degraded = True`` where decisions without scores are expected.

Times are of ``time.monotonic()``. A case of the worker tier should cost 5 to 8 seconds, a start
of a worker about one. ``kcl_case`` registers one of the second tier, see ``kcl.py``, and
``resharding_case`` one with a stream that splits and daemons of its own, see ``resharding.py``.
"""
