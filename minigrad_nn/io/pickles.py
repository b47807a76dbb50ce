"""Reads a pickle as data: numbers, text, lists, mappings, and the few objects that a caller knows.

Python's own unpickler imports and calls whatever a file names.  This one can do neither: the
opcodes below are those that picklers write for data, an object is what the caller's table of
`Known` names can build, and everything else is refused.  No size in the file is believed: each is
held against the bytes that are there before anything is made of it, and the number of steps is
limited, so a small file cannot become much memory or time.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .container import CheckpointError

__all__ = ["Known", "read_pickle", "shown"]

STEPS = 2_000_000
"""Opcodes in one pickle; a tensor takes about 30 of them."""
LARGEST = 1 << 63
"""Of integers as keys: larger ones can be chosen so that their hashes are all the same."""
NAMES = {code: name for name, code in vars(pickle).items() if isinstance(code, bytes)}


@dataclass(frozen=True, slots=True)
class Known:
    """What a pickle may name: a word, or with `build` a function of the tuple of its arguments."""

    name: str
    build: Callable[[tuple[Any, ...]], Any] | None = None


def shown(value: Any) -> str:
    """A short form of a value from a file, for a message."""
    if isinstance(value, (list, tuple, dict)):  # perhaps endless, or nested without end
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a huge integer"
    text = repr(value[:80] if isinstance(value, (str, bytes)) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def read_pickle(
    content: bytes,
    start: int,
    known: Mapping[tuple[str, str], Known],
    persistent: Callable[[Any], Any],
) -> tuple[Any, int]:
    """The value of one pickle in `content`, and where it ends.

    Args:
        content: bytes with a pickle of any protocol in them.
        start: where it begins.
        known: what it may name, by module and name.
        persistent: gives the value that stands for a persistent id.

    Raises:
        CheckpointError: it is damaged, or is made of more than data and known names.

    >>> read_pickle(pickle.dumps({"lr": 0.1, "steps": [1, 2]}), 0, {}, lambda key: None)[0]
    {'lr': 0.1, 'steps': [1, 2]}
    >>> read_pickle(pickle.dumps(print), 0, {}, lambda key: None)
    Traceback (most recent call last):
        ...
    minigrad_nn.io.container.CheckpointError: it asks for builtins.print, which data does not need
    """
    machine = _Machine(content, start, known, persistent)
    return machine.run(), machine.position


class _Machine:
    """A stack, a memo, and a place in the bytes."""

    def __init__(
        self,
        content: bytes,
        start: int,
        known: Mapping[tuple[str, str], Known],
        persistent: Callable[[Any], Any],
    ) -> None:
        self.content = content
        self.position = start
        self.known = known
        self.persistent = persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # what lies below each mark
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(STEPS):
            code = self.take(1)
            if code == pickle.STOP:
                if self.below or len(self.stack) != 1:
                    raise CheckpointError("its pickle does not end with one value")
                return self.stack.pop()
            step = _STEPS.get(code)
            if step is None:
                what = NAMES.get(code, f"0x{code.hex()}")
                raise CheckpointError(f"its pickle has the opcode {what}, which makes no data")
            step(self)
        raise CheckpointError(f"its pickle has more than {STEPS:,} steps")

    # --- the bytes -------------------------------------------------------------------------------

    def take(self, count: int) -> bytes:
        """The next bytes, if they are there."""
        end = self.position + count
        if end > len(self.content):
            raise CheckpointError("its pickle is cut off")
        found = self.content[self.position : end]
        self.position = end
        return found

    def number(self, form: str) -> Any:
        """The next number, in a format of `struct`."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> bytes:
        """What stands before the next line break."""
        end = self.content.find(b"\n", self.position)
        if end < 0:
            raise CheckpointError("its pickle is cut off")
        found = self.take(end - self.position)
        self.position += 1
        return found

    def text(self, content: bytes, encoding: str = "utf-8") -> str:
        try:
            return content.decode(encoding, "surrogatepass")
        except UnicodeDecodeError:
            raise CheckpointError(f"its pickle has no text but {shown(content)}") from None

    def parsed(self, kind: Callable[[str], Any], content: bytes) -> Any:
        try:
            return kind(content.decode("ascii"))
        except ValueError:
            raise CheckpointError(f"its pickle has no number but {shown(content)}") from None

    # --- the stack -------------------------------------------------------------------------------

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise CheckpointError("its pickle takes a value that is not there")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        if not self.below:
            raise CheckpointError("its pickle goes back to a mark that is not there")
        found, self.stack = self.stack, self.below.pop()
        return found

    def top(self, kind: type) -> Any:
        """The value on top, which must be a list or a mapping to add to."""
        if not self.stack or type(self.stack[-1]) is not kind:
            raise CheckpointError(f"its pickle adds to something that is no {kind.__name__}")
        return self.stack[-1]

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def remember(self, place: int) -> None:
        if not self.stack or not 0 <= place < LARGEST:
            raise CheckpointError("its pickle remembers a value that is not there")
        self.memo[place] = self.stack[-1]

    def recall(self, place: int) -> None:
        if place not in self.memo:
            raise CheckpointError("its pickle recalls a value that it did not remember")
        self.push(self.memo[place])

    # --- containers ------------------------------------------------------------------------------

    def group(self, count: int) -> None:
        self.push(tuple(reversed([self.pop() for _ in range(count)])))

    def extend(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def update(self, values: list[Any]) -> None:
        """Keys and values in turn; keys are text or integers, whose hashes cost nothing."""
        target = self.top(dict)
        if len(values) % 2:
            raise CheckpointError("its pickle has a key without a value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) is not str and (type(key) is not int or abs(key) > LARGEST):
                raise CheckpointError(f"its pickle has the key {shown(key)}, no text or integer")
            if key in target:
                raise CheckpointError(f"its pickle has the key {shown(key)} twice")
            target[key] = value

    def mapping(self, values: list[Any]) -> None:
        self.push({})
        self.update(values)

    # --- names and objects -----------------------------------------------------------------------

    def name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise CheckpointError("its pickle names something by what is no text")
        found = self.known.get((module, name))
        if found is None:
            what = f"{module[:60]}.{name[:60]}"
            what = what if what.isprintable() else shown(what)
            raise CheckpointError(f"it asks for {what}, which data does not need")
        self.push(found)

    def named_on_stack(self) -> None:
        name = self.pop()
        self.name(self.pop(), name)

    def build(self) -> None:
        """Call a known function; nothing else can be called."""
        arguments, function = self.pop(), self.pop()
        if type(function) is not Known or function.build is None or type(arguments) is not tuple:
            raise CheckpointError(f"its pickle calls {shown(function)}, which is no known function")
        self.push(function.build(arguments))

    def decorate(self) -> None:
        """Attributes of a mapping, such as the versions in a state: nothing is made of them."""
        if type(self.pop()) is not dict:
            raise CheckpointError("its pickle sets attributes that are no mapping")
        self.top(dict)

    def refer(self) -> None:
        self.push(self.persistent(self.pop()))

    # --- single values ---------------------------------------------------------------------------

    def protocol(self) -> None:
        number = self.number("<B")
        if number > 5:
            raise CheckpointError(f"its pickle has protocol {number}; protocols 0 to 5 are known")

    def frame(self) -> None:
        """How many bytes follow at once: of no use where all of them are here."""
        self.take(8)

    def integer(self) -> None:
        """A line with an integer, where 00 and 01 are truth values."""
        line = self.line()
        truth = {b"00": False, b"01": True}
        self.push(truth[line] if line in truth else self.parsed(int, line))

    def long(self, size: int) -> None:
        if size < 0:
            raise CheckpointError("its pickle has an integer of negative length")
        self.push(int.from_bytes(self.take(size), "little", signed=True))

    def old_text(self, size: int) -> None:
        """Text of Python 2, with its length."""
        if size < 0:
            raise CheckpointError("its pickle has text of negative length")
        self.push(self.text(self.take(size)))


_STEPS: dict[bytes, Callable[[_Machine], None]] = {
    pickle.PROTO: _Machine.protocol,
    pickle.FRAME: _Machine.frame,
    # Single values.
    pickle.NONE: lambda m: m.push(None),
    pickle.NEWTRUE: lambda m: m.push(True),
    pickle.NEWFALSE: lambda m: m.push(False),
    pickle.INT: _Machine.integer,
    pickle.LONG: lambda m: m.push(m.parsed(int, m.line().removesuffix(b"L"))),
    pickle.BININT: lambda m: m.push(m.number("<i")),
    pickle.BININT1: lambda m: m.push(m.number("<B")),
    pickle.BININT2: lambda m: m.push(m.number("<H")),
    pickle.LONG1: lambda m: m.long(m.number("<B")),
    pickle.LONG4: lambda m: m.long(m.number("<i")),
    pickle.FLOAT: lambda m: m.push(m.parsed(float, m.line())),
    pickle.BINFLOAT: lambda m: m.push(m.number(">d")),
    pickle.BINSTRING: lambda m: m.old_text(m.number("<i")),
    pickle.SHORT_BINSTRING: lambda m: m.old_text(m.number("<B")),
    pickle.UNICODE: lambda m: m.push(m.text(m.line(), "raw-unicode-escape")),
    pickle.SHORT_BINUNICODE: lambda m: m.push(m.text(m.take(m.number("<B")))),
    pickle.BINUNICODE: lambda m: m.push(m.text(m.take(m.number("<I")))),
    pickle.BINUNICODE8: lambda m: m.push(m.text(m.take(m.number("<Q")))),
    pickle.SHORT_BINBYTES: lambda m: m.push(m.take(m.number("<B"))),
    pickle.BINBYTES: lambda m: m.push(m.take(m.number("<I"))),
    pickle.BINBYTES8: lambda m: m.push(m.take(m.number("<Q"))),
    # Containers.
    pickle.MARK: _Machine.mark,
    pickle.EMPTY_TUPLE: lambda m: m.push(()),
    pickle.TUPLE1: lambda m: m.group(1),
    pickle.TUPLE2: lambda m: m.group(2),
    pickle.TUPLE3: lambda m: m.group(3),
    pickle.TUPLE: lambda m: m.push(tuple(m.pop_to_mark())),
    pickle.EMPTY_LIST: lambda m: m.push([]),
    pickle.LIST: lambda m: m.push(m.pop_to_mark()),
    pickle.APPEND: lambda m: m.extend([m.pop()]),
    pickle.APPENDS: lambda m: m.extend(m.pop_to_mark()),
    pickle.EMPTY_DICT: lambda m: m.push({}),
    pickle.DICT: lambda m: m.mapping(m.pop_to_mark()),
    pickle.SETITEM: lambda m: m.update([m.pop(), m.pop()][::-1]),
    pickle.SETITEMS: lambda m: m.update(m.pop_to_mark()),
    # What was made before.
    pickle.PUT: lambda m: m.remember(m.parsed(int, m.line())),
    pickle.BINPUT: lambda m: m.remember(m.number("<B")),
    pickle.LONG_BINPUT: lambda m: m.remember(m.number("<I")),
    pickle.MEMOIZE: lambda m: m.remember(len(m.memo)),
    pickle.GET: lambda m: m.recall(m.parsed(int, m.line())),
    pickle.BINGET: lambda m: m.recall(m.number("<B")),
    pickle.LONG_BINGET: lambda m: m.recall(m.number("<I")),
    # Names, known objects, and what lies outside of the pickle.
    pickle.GLOBAL: lambda m: m.name(m.text(m.line()), m.text(m.line())),
    pickle.STACK_GLOBAL: _Machine.named_on_stack,
    pickle.REDUCE: _Machine.build,
    pickle.BUILD: _Machine.decorate,
    pickle.BINPERSID: _Machine.refer,
}
