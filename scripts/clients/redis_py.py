#!/usr/bin/env python3
"""redis-py as a program uses it, against HOST:PORT, in RESP2 and RESP3. Exits 1 when a check fails, and names it."""

import asyncio
import sys
import threading
import time
import traceback

import redis
import redis.asyncio

HOST, PORT = sys.argv[1].rsplit(":", 1)
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def connect(protocol, **options):
    return redis.Redis(host=HOST, port=int(PORT), protocol=protocol, socket_timeout=30, **options)


def raises(kind, text, call, *arguments):
    try:
        call(*arguments)
    except kind as error:
        assert text in str(error), f"{error!r} does not say {text!r}"
    else:
        raise AssertionError(f"{call} raised nothing")


@check
def strings(client, protocol):
    assert client.set("text", b"\x00\xff\r\n") is True and client.get("text") == b"\x00\xff\r\n"
    assert client.get("none") is None and client.set("text", "x", nx=True) is None
    assert client.set("text", "new", get=True) == b"\x00\xff\r\n"
    assert client.append("text", "er") == 5 and client.strlen("text") == 5 and client.getrange("text", 1, -2) == b"ewe"
    assert client.setrange("text", 1, "o") == 5 and client.getex("text", ex=100) == b"nower" and 0 < client.ttl("text") <= 100
    assert client.mset({"a": 1, "b": 2}) is True and client.mget("a", "none", "b") == [b"1", None, b"2"]
    assert client.getdel("a") == b"1" and client.exists("a", "b") == 1
    assert client.setex("short", 100, "x") is True and client.psetex("short", 100000, "x") is True
    assert client.set("large", b"z" * 5_000_000) is True and client.get("large") == b"z" * 5_000_000


@check
def counters(client, protocol):
    assert client.incr("n") == 1 and client.incrby("n", 41) == 42 and client.decr("n") == 41 and client.decrby("n", 40) == 1
    client.set("word", "x")
    raises(redis.ResponseError, "not an integer", client.incr, "word")
    client.set("full", 2**63 - 1)
    raises(redis.ResponseError, "overflow", client.incr, "full")
    raises(redis.ResponseError, "WRONGTYPE", client.sadd, "n", "x")


@check
def sets(client, protocol):
    assert client.sadd("s", *range(100)) == 100 and client.sadd("s", 1, 2, 100) == 1 and client.scard("s") == 101
    assert client.smembers("s") == {b"%d" % n for n in range(101)}
    assert client.srem("s", 100, 101) == 1 and client.sismember("s", 5) and not client.sismember("s", "x")
    assert client.smismember("s", ["1", "x"]) == [1, 0]
    client.sadd("t", 1, 2, "x")
    assert set(client.sinter("s", "t")) == {b"1", b"2"} and set(client.sdiff("t", "s")) == {b"x"}
    assert len(client.sunion("s", "t")) == 101 and client.sintercard(2, ["s", "t"], limit=1) == 1
    assert client.smove("t", "s", "x") and client.sismember("s", "x")
    assert len(client.srandmember("s", 10)) == 10 and len(client.spop("s", 10)) == 10 and client.scard("s") == 91


@check
def expiry(client, protocol):
    client.set("e", "x", px=60)
    assert 0 < client.pttl("e") <= 60
    until = time.monotonic() + 30
    while client.get("e") is not None:
        assert time.monotonic() < until, "it does not expire"
    assert client.ttl("e") == -2
    client.set("e", "x")
    assert client.ttl("e") == -1 and client.expire("e", 100) and client.expire("e", 50, lt=True) and not client.expire("e", 60, lt=True)
    moment = int(time.time()) + 1000
    assert client.expireat("e", moment) and client.expiretime("e") == moment and client.persist("e") and client.ttl("e") == -1


@check
def pipelines(client, protocol):
    pipeline = client.pipeline(transaction=False)
    for n in range(5000):
        pipeline.set(f"p{n}", n).incr("sum").get(f"p{n}")
    replies = pipeline.execute()
    assert replies[0::3] == [True] * 5000 and replies[1::3] == list(range(1, 5001))
    assert replies[2::3] == [b"%d" % n for n in range(5000)]
    pipeline = client.pipeline(transaction=False).set("p", "x").incr("p").get("p")
    mixed = pipeline.execute(raise_on_error=False)
    assert mixed[0] is True and isinstance(mixed[1], redis.ResponseError) and mixed[2] == b"x"


@check
def text_instead_of_bytes(client, protocol):
    with connect(protocol, decode_responses=True) as text:
        text.set("ключ", "значение")
        assert text.get("ключ") == "значение" and text.type("ключ") == "string"
        text.sadd("gold", "ä", "ö")
        assert text.smembers("gold") == {"ä", "ö"}
        assert text.info()["redis_mode"] == "standalone"


@check
def iterators(client, protocol):
    pipeline = client.pipeline(transaction=False)
    for n in range(3000):
        pipeline.set(f"scan:{n}", n)
        pipeline.sadd("many", f"element:{n}")
    pipeline.execute()
    keys = list(client.scan_iter(match="scan:*", count=100))
    assert len(keys) == 3000 and len(set(keys)) == 3000
    elements = list(client.sscan_iter("many", count=100))
    assert len(elements) == 3000 and len(set(elements)) == 3000
    assert list(client.sscan_iter("many", match="element:77")) == [b"element:77"]
    assert list(client.scan_iter(_type="SET")) == [b"many"] and list(client.scan_iter(_type="hash")) == []
    assert client.dbsize() == 3001 and len(client.keys("scan:1?")) == 10 and client.randomkey() is not None


@check
def connection(client, protocol):
    with connect(protocol, client_name="tester", single_connection_client=True) as named:
        assert named.client_getname() in ("tester", b"tester")
        assert named.client_setname("renamed") is True
        own = named.client_id()
        assert [entry["name"] for entry in named.client_list() if int(entry["id"]) == own] == ["renamed"]
        assert named.client_info()["lib-name"].startswith("redis-py")
        assert named.ping() is True and named.echo("x") == b"x" and len(named.time()) == 2
        assert str(named.client_info().get("resp", protocol)) == str(protocol)
    raises(redis.ResponseError, "unknown command", client.execute_command, "NOSUCH", "x")
    raises(redis.AuthenticationError, "", connect(protocol, password="x").ping)
    raises(redis.ResponseError, "out of range", connect(protocol, db=3).ping)


@check
def introspection(client, protocol):
    info = client.info()
    for field in ("redis_version", "uptime_in_seconds", "connected_clients", "used_memory", "total_commands_processed", "role"):
        assert field in info, f"INFO has no {field}"
    assert "redis_version" not in client.info("clients") and "meridian_version" in client.info("server")
    commands = client.command()
    assert client.command_count() == len([name for name in commands if "|" not in name]) and "get" in commands
    docs = client.execute_command("COMMAND DOCS", "GET", "SADD")
    assert len(docs) in (2, 4)
    assert client.command_list() and set(client.command_getkeys("MSET", "a", 1, "b", 2)) <= {"a", "b", b"a", b"b"}
    assert client.config_get("maxmemory*") and client.object("encoding", "none") is None and client.memory_usage("none") is None


@check
def pools(client, protocol):
    pool = redis.BlockingConnectionPool(host=HOST, port=int(PORT), protocol=protocol, max_connections=8, timeout=30,
                                        health_check_interval=1)
    failures = []

    def work(number):
        try:
            pooled = redis.Redis(connection_pool=pool)
            for _ in range(100):
                pooled.incr("pooled")
                pooled.sadd("workers", number)
        except Exception as error:  # Reported by the check: a thread's own is not seen.
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    assert client.get("pooled") == b"2000" and client.scard("workers") == 20
    pool.disconnect()


@check
def health_checks(client, protocol):
    with connect(protocol, health_check_interval=1, single_connection_client=True) as checked:
        checked.set("h", 1)
        # A check is due when the last reply is older than the interval: waiting is what is tested.
        time.sleep(1.2)
        assert checked.get("h") == b"1"
        before = client.info("commandstats").get("cmdstat_ping", {}).get("calls", 0)
        assert before > 0, "no PING was sent"


@check
def asynchronous(client, protocol):
    async def work():
        pool = redis.asyncio.BlockingConnectionPool(host=HOST, port=int(PORT), protocol=protocol, max_connections=20, timeout=30)
        async with redis.asyncio.Redis.from_pool(pool) as many:
            await asyncio.gather(*(many.incr("async") for _ in range(200)))
            assert await many.get("async") == b"200"
            await many.sadd("async:s", *range(50))
            assert len([element async for element in many.sscan_iter("async:s")]) == 50

    asyncio.run(work())


def main():
    failed = 0
    for protocol in (2, 3):
        for function in CHECKS:
            with connect(protocol) as client:
                try:
                    client.flushall()
                    function(client, protocol)
                except Exception:  # Every check is run, whatever the others do.
                    failed += 1
                    print(f"FAILED redis-py {redis.__version__}, RESP{protocol}: {function.__name__}")
                    traceback.print_exc(file=sys.stdout)
    print(f"redis-py {redis.__version__}: {2 * len(CHECKS) - failed} checks passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
