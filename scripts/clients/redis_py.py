"""redis-py as a client, over both versions of the protocol: what it writes in one region is read in the others."""

import json
import sys
import time

import redis


def clients(path, protocol):
    with open(path) as file:
        nodes = json.load(file)["nodes"]
    for node in nodes:
        host, _, port = node["resp"].rpartition(":")
        yield redis.Redis(host=host, port=int(port), protocol=protocol, decode_responses=True)


def eventually(what, probe):
    deadline = time.monotonic() + 30
    while not probe():
        if time.monotonic() > deadline:
            sys.exit(f"{what}: not within 30 s")
        time.sleep(0.02)


def use(regions, prefix):
    first = regions[0]
    assert first.ping()
    assert first.set(f"{prefix}:k", "v", ex=100)
    assert 0 < first.ttl(f"{prefix}:k") <= 100
    assert first.set(f"{prefix}:k", "w", nx=True) is None
    assert first.incrby(f"{prefix}:n", 5) == 5
    assert first.sadd(f"{prefix}:s", "a", "b", "c") == 3
    assert first.srem(f"{prefix}:s", "b") == 1
    with first.pipeline(transaction=False) as pipe:
        pipe.get(f"{prefix}:k").incr(f"{prefix}:n").smembers(f"{prefix}:s")
        assert pipe.execute() == ["v", 6, {"a", "c"}]
    assert set(first.scan_iter(match=f"{prefix}:*")) == {f"{prefix}:{key}" for key in "kns"}
    try:
        first.incr(f"{prefix}:s")
        sys.exit("INCR of a set is an error")
    except redis.ResponseError as error:
        assert str(error).startswith("WRONGTYPE"), error
    assert first.info()["redis_version"] == "7.0.15"
    for region in regions:
        eventually("a string arrives", lambda: region.get(f"{prefix}:k") == "v")
        eventually("a counter arrives", lambda: region.get(f"{prefix}:n") == "6")
        eventually("a set arrives", lambda: region.smembers(f"{prefix}:s") == {"a", "c"})


for version in (2, 3):
    use(list(clients(sys.argv[1], version)), f"resp{version}")
print(f"redis-py {redis.__version__}: ok")
