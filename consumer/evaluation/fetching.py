"""Brings what lies in S3 here: figures need files that can be read more than once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from consumer.replay.objects import S3, OpenBucket, Period, list_files

_ALWAYS = Period()


@contextmanager
def fetched(
    option: str, places: Sequence[str | Path], open_bucket: OpenBucket
) -> Iterator[list[str | Path]]:
    """
    Yield *places* with those in S3 replaced by copies, which go when the block ends.

    An address is ``s3://bucket/prefix``, of which everything below is taken, or holds a glob;
    files that lay beside one another do so here. Copies stand in the folder for temporary
    files, all at once. Raises Misconfigured, naming *option*, where there is nothing, and
    Unavailable.
    """
    with TemporaryDirectory(prefix="fraudstream-report-") as folder:
        here: list[str | Path] = []
        for place in places:
            if str(place).startswith(S3):
                here += _fetch(option, str(place), Path(folder), open_bucket)
            else:
                here.append(place)
        yield here


def _fetch(option: str, place: str, folder: Path, open_bucket: OpenBucket) -> list[Path]:
    """Copy what *place* names below *folder*, a folder of its own for each prefix."""
    copies: list[Path] = []
    beside: dict[str, Path] = {}
    for listed in list_files(place, _ALWAYS, open_bucket, option):
        assert listed.bucket is not None
        assert listed.stored is not None
        above, _, name = listed.stored.key.rpartition("/")
        if above not in beside:
            beside[above] = Path(mkdtemp(dir=folder))
        # A key may be anything, also "..".
        target = beside[above] / (name.lstrip(".") or "object")
        listed.bucket.fetch(listed.stored, target)
        copies.append(target)
    return copies
