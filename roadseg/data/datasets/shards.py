"""A dataset that was packed into tar shards."""

from pathlib import Path

from roadseg.data.shards import ShardedFrames

HOW_TO_GET = "write shards of another dataset with `roadseg data shard -c FILE -o DIR`"


def open_shards(folder: Path, url: str | None = None, cache: str | None = None, cache_gb: float = 50) -> ShardedFrames:
    """Shards in a folder, or on a web server.

    Args:
        folder: that `roadseg data shard` wrote, if no URL is given.
        url: of such a folder: https:, http: or file:.
        cache: folder on a local disk for what is fetched from a server.
        cache_gb: how much is kept there, in 10^9 bytes; eight shards of each loading process should fit.

    Raises:
        ConfigError: when the URL is of another kind, or needs a cache and none is named.
        DataError: when there is no dataset, or its index is damaged.
    """
    return ShardedFrames(url or folder, Path(cache).expanduser() if cache else None, int(cache_gb * 1e9))
