"""Structures for bench/fuzz.exs: builds them, says what they are as text, and changes them behind one's back."""

import builtins
import collections
import contextlib
import enum
import random
import struct
import sys
import threading

from pythonx import PID

# Enough nodes for a decoding that lets others run some times.
LARGE = 30_000
# A structure whose parts are shared can be exponentially larger as a term.
COMPARED = 20_000

Named = collections.namedtuple("Named", ["first"])
Number = enum.IntEnum("Number", ["ONE", "TWO"])
subclasses = {base: type(f"Of_{base.__name__}", (base,), {}) for base in (int, float, bytes, str, list, dict)}
plain = {"object": object, "type": lambda: dict, "bytearray": lambda: bytearray(b"x")}


class Builder:
    """Containers are known by number from when they are begun, so that a reference may make one hold itself."""

    def __init__(self):
        self.containers = []

    def make(self, description):
        if isinstance(description, str):
            return plain[description]()
        kind, *arguments = description
        return getattr(self, kind)(*arguments)

    def value(self, value):
        return value

    def float(self, text):
        return float(text.decode())

    def bytes(self, value):
        return value

    def str(self, codes):
        return "".join(map(chr, codes))

    def repeat(self, code, count):
        return chr(code) * count

    def subclass(self, description):
        value = self.make(description)
        return subclasses[type(value)](value)

    def enum(self, value):
        return Number(value)

    def pid(self, pid):
        return pid

    def ref(self, number):
        return self.containers[number % len(self.containers)] if self.containers else None

    def begun(self, container):
        self.containers.append(container)
        return container

    def list(self, items, kind=list):
        result = self.begun(kind())
        for item in items:
            result.append(self.make(item))
        return result

    def list_subclass(self, items):
        return self.list(items, subclasses[list])

    def tuple(self, items):
        return self.begun(tuple([self.make(item) for item in items]))

    def named(self, items):
        return Named(self.list(items))

    def dict(self, items, kind=dict):
        result = self.begun(kind())
        for key, value in items:
            result[self.make(key)] = self.make(value)
        return result

    def dict_subclass(self, items):
        return self.dict(items, subclasses[dict])

    def ordered(self, items):
        return self.dict(items, collections.OrderedDict)

    def default(self, items):
        return self.dict(items, collections.defaultdict)

    # Not among what is referred to: a set cannot be a key, and a frozenset is met as one anyway.
    def set(self, items):
        return {self.make(item) for item in items}

    def frozenset(self, items):
        return frozenset(self.set(items))


class Writer:
    """Writes a structure as text, and collects the reasons for which it cannot be decoded."""

    def __init__(self):
        self.reasons = set()
        self.open = set()
        self.left = COMPARED

    def text(self, value):
        self.left -= 1
        if self.left < 0:
            raise OverflowError
        for kind, write in self.writers:
            if isinstance(value, kind):
                return write(self, value)
        return "N" if value is None else "O"

    def bool(self, value):
        return "T" if value else "F"

    def int(self, value):
        return "i" + ("-" if value < 0 else "") + format(abs(int(value)), "X")

    def float(self, value):
        names = {"nan": "nan", "inf": "infinity", "-inf": "neg_infinity"}
        return names.get(float.__repr__(value)) or "f" + struct.pack(">d", value).hex().upper()

    def str(self, value):
        try:
            return self.bytes(str.encode(value))
        except UnicodeEncodeError:
            self.reasons.add("surrogate")
            return ""

    def bytes(self, value):
        return "b" + bytes.hex(value).upper()

    def inside(self, value, write):
        if id(value) in self.open:
            self.reasons.add("contains_itself")
            return ""
        self.open.add(id(value))
        try:
            return write()
        finally:
            self.open.remove(id(value))

    def sequence(self, value, opening, closing):
        return self.inside(
            value, lambda: opening + "".join(self.text(item) + "," for item in value) + closing
        )

    def list(self, value):
        return self.sequence(value, "[", "]")

    def tuple(self, value):
        return self.sequence(value, "(", ")")

    def distinct(self, texts):
        if len(set(texts)) < len(texts):
            self.reasons.add("same_key")
        return texts

    def set(self, value):
        texts = sorted(self.distinct([self.text(item) for item in value]))
        return "<" + "".join(text + "," for text in texts) + ">"

    def dict(self, value):
        def write():
            keys = self.distinct([self.text(key) for key in value])
            texts = [f"{key}:{self.text(item)}," for key, item in zip(keys, value.values(), strict=True)]
            return "{" + "".join(sorted(texts)) + "}"

        return self.inside(value, write)

    # In this order: True is an int as well, a member of an IntEnum too.
    writers = (
        (builtins.bool, bool),
        (builtins.int, int),
        (builtins.float, float),
        (builtins.str, str),
        (builtins.bytes, bytes),
        (builtins.list, list),
        (builtins.tuple, tuple),
        ((builtins.set, builtins.frozenset), set),
        (builtins.dict, dict),
        (PID, lambda self, value: "P"),
    )


def version():
    return sys.version.split()[0]


def build(description):
    return Builder().make(description)


def described(structure):
    writer = Writer()
    try:
        text = writer.text(structure)
    except OverflowError:
        text = None
    return text, list(writer.reasons)


class Mutator:
    """A thread that changes what it can of a structure until it is stopped."""

    def __init__(self, structure):
        self.containers = list(mutable(structure))
        self.stopping = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while self.containers and not self.stopping:
            container = random.choice(self.containers)
            with contextlib.suppress(IndexError, KeyError, RuntimeError, StopIteration, ValueError):
                random.choice(changes[type(container)])(container)

    def stop(self):
        self.stopping = True
        self.thread.join()


def mutable(structure):
    """The lists, dicts and sets in a structure, each once."""
    seen, left = {}, [structure]
    while left:
        value = left.pop()
        if id(value) in seen or not isinstance(value, (list, tuple, dict, set, frozenset)):
            continue
        seen[id(value)] = value
        left.extend(value.values() if isinstance(value, dict) else value)
    return [value for value in seen.values() if type(value) in changes]


def shuffled(container):
    container[:] = random.sample(container, len(container))


def grown(container):
    if len(container) < LARGE:
        container.extend([float(len(container)), [b"new"], {"k": ()}] * 3)


# What holds itself is refused, as it is without any thread: nothing here makes it so.
list_changes = [
    list.pop,
    list.clear,
    list.reverse,
    shuffled,
    grown,
    grown,
    lambda container: container.insert(0, (None, "x" * 600)),
    lambda container: container.__setitem__(random.randrange(len(container)), {1: 2}),
]
dict_changes = [
    dict.popitem,
    dict.clear,
    lambda container: container.update({n: [n] for n in range(random.randrange(50))}),
    lambda container: container.update({"s" * n: {n} for n in range(random.randrange(50))}),
    lambda container: container.__setitem__(next(iter(container)), ["other"]),
]
set_changes = [set.pop, set.clear, lambda container: container.update(range(random.randrange(50)))]
changes = {list: list_changes, dict: dict_changes, set: set_changes}
changes |= {
    subclasses[list]: list_changes,
    subclasses[dict]: dict_changes,
    collections.OrderedDict: dict_changes,
}

mutator = None


def mutate(description):
    """Builds a structure, large enough that others run while it is decoded, and begins to change it."""
    global mutator
    first = Builder().make(description)
    count = LARGE // (len(repr(first)) // 8 + 1)
    structure = [first, *(Builder().make(description) for _ in range(min(count, LARGE // 10)))]
    sys.setswitchinterval(0.00005)
    mutator = Mutator(structure)
    return structure


def stop():
    mutator.stop()
    sys.setswitchinterval(0.005)
