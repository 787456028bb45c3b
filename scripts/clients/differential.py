#!/usr/bin/env python3
"""Random commands to two servers at once; the raw replies must be equal.

    differential.py HOST:PORT HOST:PORT [--commands N] [--seed S]

What Redis leaves open is compared as far as it is fixed: unordered replies as multisets, random choices by their number, remaining
times within a second. Exits 1 at the first reply that differs and prints the commands on that key that led there.
"""

import argparse
import random
import socket
import sys
import time

BATCH = 40
KEYS = [b"k%d" % n for n in range(12)] + [b"{tag}a", b"{tag}b", b"\x00\xff\r\n", b""]
MEMBERS = [b"m%d" % n for n in range(20)] + [b"", b"1", b"-1", b"\r\n\x00", b"x" * 70]
TEXTS = [b"", b"a", b"text", b"0", b"7", b"-7", b" 7", b"07", b"+7", b"3.5", b"9223372036854775807", b"-9223372036854775808",
         b"9223372036854775808", b"\x00\xff", b"y" * 300]
INTEGERS = [b"0", b"1", b"-1", b"5", b"-5", b"100", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808",
            b"1.5", b"abc", b"", b" 1"]
INDEXES = [b"0", b"1", b"-1", b"3", b"-3", b"250", b"-400", b"9223372036854775807", b"-9223372036854775808", b"x"]
OFFSETS = [b"0", b"1", b"5", b"40", b"-1", b"9223372036854775807", b"x"]
PATTERNS = [b"*", b"k*", b"k?", b"k[0-5]", b"k[^0-5]", b"\\k1", b"[k", b"*1*", b"m1*", b"", b"\\", b"[a-", b"k1\\"]
UNORDERED = {b"SMEMBERS", b"SINTER", b"SUNION", b"SDIFF", b"KEYS", b"SPOP"}
COUNTED = {b"SRANDMEMBER"}
TIMED = {b"TTL", b"PTTL"}


class Server:
    """One connection, replies as nested tuples of what was on the wire."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.file = self.socket.makefile("rb")

    def send(self, commands):
        out = bytearray()
        for command in commands:
            out += b"*%d\r\n" % len(command)
            for part in command:
                out += b"$%d\r\n%s\r\n" % (len(part), part)
        self.socket.sendall(out)

    def reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"$" and rest != b"-1":
            return (b"$", self.file.read(int(rest) + 2)[:-2])
        if kind == b"*" and rest != b"-1":
            return (b"*", [self.reply() for _ in range(int(rest))])
        return (b"nil", kind) if kind in b"$*" else (kind, rest)

    def one(self, *command):
        self.send([command])
        return self.reply()

    def walk(self, *command):
        """Everything that a SCAN or SSCAN gives, and how often."""
        found, cursor, at = [], b"0", 1 + (command[0] == b"SSCAN")
        while True:
            _, (next_cursor, items) = self.one(*command[:at], cursor, *command[at:])
            found += items[1]
            cursor = next_cursor[1]
            if cursor == b"0":
                return sorted(found)


class Dice:
    """Makes commands."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def one(self, *choices):
        return self.random.choice(choices)

    def some(self, choices, most):
        return [self.random.choice(choices) for _ in range(self.random.randint(1, most))]

    def key(self):
        return self.random.choice(KEYS)

    def moment(self, unit):
        """An expiry far ahead, or long past: never one that passes meanwhile."""
        far = int(time.time()) + self.random.randint(1000, 100000)
        return self.one(b"%d" % (far * unit), b"%d" % (far * unit), b"1", b"0", b"-1", b"9223372036854775807", b"z")

    def span(self, unit):
        return self.one(b"%d" % (self.random.randint(1000, 9000) * unit), b"0", b"-1", b"9223372036854775807", b"z")

    def set_options(self):
        options = [[b"NX"], [b"xx"], [b"GET"], [b"KEEPTTL"], [b"EX", self.span(1)], [b"PX", self.span(1000)],
                   [b"EXAT", self.moment(1)], [b"PXAT", self.moment(1000)], [b"BAD"], [b"EX"]]
        weights = [3, 3, 4, 4, 2, 2, 3, 3, 1, 1]
        chosen = self.random.choices(options, weights, k=self.one(0, 0, 1, 1, 2, 3))
        return [part for option in chosen for part in option]

    def command(self):
        key, other = self.key(), self.key()
        text, number = self.one(*TEXTS), self.one(*INTEGERS)
        condition = self.one([], [], [b"NX"], [b"XX"], [b"GT"], [b"lt"], [b"XX", b"GT"], [b"NX", b"GT"], [b"GT", b"LT"], [b"Q"])
        made = self.one(
            [b"SET", key, text, *self.set_options()], [b"SET", key, text, *self.set_options()], [b"GET", key], [b"STRLEN", key],
            [b"GETRANGE", key, self.one(*INDEXES), self.one(*INDEXES)], [b"SETRANGE", key, self.one(*OFFSETS), text],
            [b"APPEND", key, text], [b"SETNX", key, text], [b"GETSET", key, text], [b"GETDEL", key],
            [b"SETEX", key, self.span(1), text], [b"PSETEX", key, self.span(1000), text],
            [b"GETEX", key, *self.one([], [b"PERSIST"], [b"EXAT", self.moment(1)], [b"PXAT", self.moment(1000)], [b"EX", b"0"])],
            [b"INCR", key], [b"DECR", key], [b"INCRBY", key, number], [b"DECRBY", key, number],
            [b"MSET", *(part for _ in range(self.one(1, 2, 3)) for part in (self.key(), self.one(*TEXTS)))],
            [b"MGET", *self.some(KEYS, 5)], [b"DEL", *self.some(KEYS, 2)], [b"UNLINK", key], [b"EXISTS", *self.some(KEYS, 4)],
            [b"TOUCH", key, other], [b"TYPE", key], [b"EXPIREAT", key, self.moment(1), *condition],
            [b"PEXPIREAT", key, self.moment(1000), *condition], [b"EXPIRE", key, self.span(1), *condition],
            [b"PEXPIRE", key, self.span(1000), *condition], [b"PERSIST", key], [b"TTL", key], [b"PTTL", key],
            [b"SADD", key, *self.some(MEMBERS, 6)], [b"SADD", key, *self.some(MEMBERS, 6)], [b"SREM", key, *self.some(MEMBERS, 4)],
            [b"SISMEMBER", key, self.one(*MEMBERS)], [b"SMISMEMBER", key, *self.some(MEMBERS, 4)], [b"SCARD", key],
            [b"SMEMBERS", key], [b"SRANDMEMBER", key, self.one(b"1", b"3", b"-3", b"100", b"0", b"x")], [b"SPOP", key, b"1000"],
            [b"SMOVE", key, other, self.one(*MEMBERS)], [b"SINTER", *self.some(KEYS, 3)], [b"SUNION", *self.some(KEYS, 3)],
            [b"SDIFF", *self.some(KEYS, 3)],
            [b"SINTERCARD", self.one(b"1", b"2", b"2", b"0", b"9", b"x"), key, other, *self.one([], [b"LIMIT", number])],
            [b"KEYS", self.one(*PATTERNS)], [b"ECHO", text], [b"PING"], [b"SELECT", self.one(b"0", b"x")],
        )
        # Now and then one argument too many or too few.
        flaw = self.random.random()
        if flaw < 0.02:
            return made + [text]
        if flaw < 0.04 and len(made) > 1 and made[0] != b"SPOP":
            return made[:-1]
        return made


def comparable(command, reply):
    """What of a reply has to be equal."""
    name, (kind, body) = command[0], reply
    if kind == b"*" and name in UNORDERED:
        return (kind, sorted(body))
    if kind == b"*" and name in COUNTED:
        return (kind, len(body))
    if kind == b"$" and name in COUNTED:
        return (kind, "a member")
    if kind == b":" and name in TIMED and int(body) > 0:
        return (kind, b"some time")
    return reply


def is_close(command, one, other):
    """Remaining times are asked one after the other."""
    if command[0] not in TIMED or one[0] != b":" or other[0] != b":":
        return True
    return abs(int(one[1]) - int(other[1])) <= (1 if command[0] == b"TTL" else 1000)


class Run:
    def __init__(self, left, right):
        self.servers = (Server(left), Server(right))
        self.history = []

    def differ(self, command, one, other):
        keys = set(command[1:]) & set(KEYS)
        print("A reply differs:", b" ".join(map(lambda part: repr(part).encode(), command)).decode())
        print("  first server: ", one)
        print("  second server:", other)
        print("Commands before it on its keys:")
        related = [earlier for earlier in self.history if keys & set(earlier[1:])]
        for earlier in related[-15:]:
            print("   ", earlier)
        sys.exit(1)

    def batch(self, commands):
        for server in self.servers:
            server.send(commands)
        for command in commands:
            one, other = (server.reply() for server in self.servers)
            if comparable(command, one) != comparable(command, other) or not is_close(command, one, other):
                self.differ(command, one, other)
            self.history.append(command)
        del self.history[:-2000]

    def everything(self):
        """Both hold the same, and a walk over it finds each once."""
        self.counts()
        for command in ([b"SCAN", b"COUNT", b"3"], [b"SCAN", b"COUNT", b"3", b"TYPE", b"set"], [b"SCAN", b"MATCH", b"k[1-3]*"]):
            one, other = (server.walk(*command) for server in self.servers)
            if one != other:
                self.differ(command, one, other)
        for key in KEYS:
            if self.servers[0].one(b"TYPE", key) == (b"+", b"set"):
                one, other = (server.walk(b"SSCAN", key, b"COUNT", b"2") for server in self.servers)
                if one != other:
                    self.differ([b"SSCAN", key], one, other)
        for key in KEYS:
            self.batch([[b"TYPE", key], [b"PEXPIRETIME", key] if self.is_exact(key) else [b"EXISTS", key]])

    def counts(self):
        """Both count what has expired until they find it, which takes them a moment."""
        until = time.monotonic() + 10
        while True:
            one, other = (server.one(b"DBSIZE") for server in self.servers)
            if one == other:
                return
            if time.monotonic() > until:
                self.differ([b"DBSIZE"], one, other)
            time.sleep(0.05)

    def is_exact(self, key):
        """Whether both hold the same moment: it was given as one, not as a span."""
        one, other = (server.one(b"PEXPIRETIME", key) for server in self.servers)
        if abs(int(one[1]) - int(other[1])) > 1000:
            self.differ([b"PEXPIRETIME", key], one, other)
        return one == other


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("servers", nargs=2)
    parser.add_argument("--commands", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
    print(f"seed {seed}, {options.commands} commands", flush=True)
    run, dice = Run(*options.servers), Dice(seed)
    run.batch([[b"FLUSHALL"]])
    for at in range(0, options.commands, BATCH):
        run.batch([dice.command() for _ in range(min(BATCH, options.commands - at))])
        if at // BATCH % 10 == 0:
            run.everything()
    run.everything()
    print("every reply is equal")


main()
