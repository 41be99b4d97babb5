"""Hostile and odd values, by kind: whatever an application may hand to a log call.

`HOSTILE` pairs a name with a factory, so that each test has values of its own. No value may raise out of a conversion,
and none may change what becomes of its neighbours.
"""

# ruff: noqa: E731, PLE0303, PLE0307, DTZ901
# Broken on purpose, and the shorter the better.

from __future__ import annotations

import array
import asyncio
import builtins
import collections
import collections.abc
import contextvars
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import io
import ipaddress
import itertools
import logging
import math
import operator
import pathlib
import queue
import re
import sys
import threading
import types
import typing
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple


class Stop(BaseException):
    """Not an Exception, as the errors by which frameworks unwind a task are."""


class EvilInt(int):
    def __str__(self) -> str:
        raise ValueError("no str")

    __repr__ = __str__
    __format__ = __str__
    __index__ = __int__ = __str__
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = lambda self, other: 1 / 0
    __hash__ = lambda self: 1 // 0


class EvilFloat(float):
    def __str__(self) -> str:
        raise ValueError("no str")

    __repr__ = __str__
    __float__ = __str__
    __eq__ = lambda self, other: 1 / 0
    __hash__ = lambda self: 1 // 0


class EvilStr(str):
    def __str__(self) -> str:
        raise ValueError("no str")

    __repr__ = __str__
    __format__ = __str__
    __len__ = lambda self: 1 // 0
    __getitem__ = lambda self, key: 1 / 0
    encode = isascii = __iter__ = __contains__ = lambda self, *rest: 1 / 0
    __eq__ = lambda self, other: 1 / 0
    __hash__ = lambda self: 1 // 0


class HashableEvilStr(EvilStr):
    __eq__ = str.__eq__
    __hash__ = str.__hash__


class EvilBytes(bytes):
    __len__ = lambda self: 1 // 0
    __getitem__ = decode = __bytes__ = __iter__ = lambda self, *rest: 1 / 0
    __buffer__ = lambda self, flags: 1 / 0
    __eq__ = lambda self, other: 1 / 0
    __hash__ = lambda self: 1 // 0


class EvilDict(dict):
    items = keys = values = __iter__ = __getitem__ = __len__ = get = lambda self, *rest: 1 / 0


class EvilList(list):
    __iter__ = __getitem__ = __len__ = __contains__ = lambda self, *rest: 1 / 0


class Color(enum.Enum):
    RED = 1
    SHAPES = ("round", "square")


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Word(str, enum.Enum):
    HELLO = "hello"


class EvilEnum(enum.Enum):
    ONE = 1

    @property
    def value(self) -> Any:
        return self


@dataclasses.dataclass
class Point:
    x: int = 1
    y: Any = "two"


@dataclasses.dataclass
class Secretive:
    user: str = "ann"
    password: str = dataclasses.field(default="hunter2", repr=False)


@dataclasses.dataclass(slots=True)
class Slotted:
    x: int = 1
    missing: Any = dataclasses.field(init=False)


@dataclasses.dataclass
class WithClassVar:
    shared: typing.ClassVar[int] = 1
    start: dataclasses.InitVar[int] = 2
    own: int = 3


@dataclasses.dataclass
class EvilDataclass:
    good: int = 1

    def __getattribute__(self, name: str) -> Any:
        raise Stop(name)


class FakeDataclass:
    __dataclass_fields__ = 7


class Pair(NamedTuple):
    left: int
    right: Any


class FakeNamedTuple(tuple):
    _fields = ("only one",)


class Model:
    """As pydantic's models look from outside."""

    def __init__(self, **content: Any) -> None:
        self.content = content

    def model_dump(self) -> Any:
        return self.content


class RaisingModel:
    def model_dump(self) -> Any:
        raise Stop("no dump")


class SelfModel:
    def model_dump(self) -> Any:
        return self


class EndlessModel:
    def model_dump(self) -> Any:
        return {"again": self}


class AttrsAttribute(NamedTuple):
    name: str
    repr: bool


class AttrsLike:
    __attrs_attrs__ = (AttrsAttribute("a", True), AttrsAttribute("b", False), AttrsAttribute("c", True))

    def __init__(self) -> None:
        self.a = 1
        self.b = "secret"


class FakeAttrs:
    __attrs_attrs__ = 7


class ArrayScalar:
    """As the scalars of array libraries look from outside."""

    def __init__(self, value: Any, kind: str = "i") -> None:
        self.value = value
        self.dtype_kind = kind

    @property
    def dtype(self) -> Any:
        return types.SimpleNamespace(kind=self.dtype_kind)

    def item(self) -> Any:
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value

    def __str__(self) -> str:
        return "array scalar"


class HalfMapping(Mapping[str, int]):
    """Keeps one promise of two."""

    def __iter__(self) -> Iterator[str]:
        return iter(["good", "bad"])

    def __len__(self) -> int:
        return -1

    def __getitem__(self, key: str) -> int:
        if key == "bad":
            raise Stop(key)
        return 1


class BrokenMapping(HalfMapping):
    def __iter__(self) -> Iterator[str]:
        yield "good"
        raise Stop("no more keys")


class EndlessMapping(HalfMapping):
    def __iter__(self) -> Iterator[str]:
        return map(str, itertools.count())


class LyingSequence(Sequence[int]):
    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: Any) -> Any:
        if index > 2:
            raise IndexError
        return index


class BrokenSequence(LyingSequence):
    def __len__(self) -> int:
        raise Stop("no len")

    def __iter__(self) -> Iterator[int]:
        yield 1
        raise Stop("no more items")


class EndlessSequence(LyingSequence):
    def __iter__(self) -> Iterator[int]:
        return itertools.count()


class SelfSequence(LyingSequence):
    def __iter__(self) -> Iterator[Any]:
        return iter([SelfSequence()])


class RaisingStr:
    def __str__(self) -> str:
        raise ValueError("no str")


class RaisingBoth:
    def __str__(self) -> str:
        raise ValueError("no str")

    __repr__ = __str__


class StoppingStr:
    def __str__(self) -> str:
        raise Stop("stop")

    __repr__ = __str__


class NoTextStr:
    def __str__(self) -> str:
        return 7

    __repr__ = __str__


class SubclassStr:
    def __str__(self) -> str:
        return HashableEvilStr("a subclass")


class SurrogateStr:
    def __str__(self) -> str:
        return "\ud800"


class RecursingStr:
    def __str__(self) -> str:
        return str(self)

    __repr__ = __str__


class LoggingStr:
    def __str__(self) -> str:
        logging.getLogger("tests.corpus").warning("from inside __str__: %s", 1)
        return "logged"


class SelfFormattingStr:
    def __format__(self, spec: str) -> str:
        raise ValueError("no format")


class LyingClass:
    """Says that it is text, as transparent proxies do."""

    @property
    def __class__(self) -> Any:
        return str


class RaisingClass:
    @property
    def __class__(self) -> Any:
        raise Stop("no class")


class LyingDict:
    @property
    def __class__(self) -> Any:
        return dict


class RaisingGetattr:
    def __getattr__(self, name: str) -> Any:
        raise Stop(name)


class RaisingGetattribute:
    def __getattribute__(self, name: str) -> Any:
        raise Stop(name)


class AnswersEverything:
    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, key: Any) -> Any:
        return self


class FalseAndUnequal:
    def __bool__(self) -> bool:
        raise Stop("no bool")

    def __eq__(self, other: object) -> bool:
        raise Stop("no eq")

    def __hash__(self) -> int:
        raise Stop("no hash")


class EvilMeta(type):
    def __hash__(cls) -> int:
        raise ValueError("no hash")

    def __eq__(cls, other: object) -> bool:
        raise ValueError("no eq")

    def __getattribute__(cls, name: str) -> Any:
        raise Stop(name)

    def __instancecheck__(cls, instance: object) -> bool:
        raise Stop("no check")


class OfEvilMeta(metaclass=EvilMeta):
    pass


class Bad(Exception):
    def __str__(self) -> str:
        raise Stop("no str")


class EvilZone(dt.tzinfo):
    def utcoffset(self, when: Any) -> Any:
        raise Stop("no offset")

    def __repr__(self) -> str:
        raise Stop("no repr")


class StrIsodate(dt.date):
    def isoformat(self) -> Any:
        return 7


class WithDel:
    def __del__(self) -> None:
        logging.getLogger("tests.corpus").debug("from __del__")


def self_holding_dict() -> dict[str, Any]:
    value: dict[str, Any] = {"a": 1}
    value["self"] = value
    return value


def self_holding_list() -> list[Any]:
    value: list[Any] = [1]
    value.append({"inside": value})
    return value


def self_holding_tuple() -> tuple[Any, ...]:
    inside: list[Any] = []
    value = (inside,)
    inside.append(value)
    return value


def self_holding_dataclass() -> Point:
    value = Point()
    value.y = [value]
    return value


def self_holding_deque() -> collections.deque[Any]:
    value: collections.deque[Any] = collections.deque([1])
    value.append(value)
    return value


def deep_list() -> list[Any]:
    value: list[Any] = []
    for _ in range(10_000):
        value = [value]
    return value


def deep_dict() -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(10_000):
        value = {"in": value}
    return value


def deep_dataclass() -> Point:
    value = Point()
    for _ in range(10_000):
        value = Point(1, value)
    return value


def wide_sharing() -> list[Any]:
    value: list[Any] = [1]
    for _ in range(40):
        value = [value, value]
    return value


def nested_enum() -> Any:
    return enum.Enum("Outer", {"INNER": [Color.RED, Level.LOW]}).INNER


def raised_error() -> BaseException:
    try:
        {}["missing"]
    except KeyError as error:
        return error
    raise AssertionError


def chained_error() -> BaseException:
    try:
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError as error:
            raise ValueError("outer") from error
    except ValueError as error:
        return error


def self_causing_error() -> BaseException:
    error = ValueError("mine")
    error.__cause__ = error
    return error


def group_error() -> BaseException:
    if sys.version_info >= (3, 11):
        return builtins.ExceptionGroup(
            "several", [ValueError("one"), builtins.ExceptionGroup("inner", [KeyError("two")])]
        )
    return ValueError("no groups")


def released_view() -> memoryview:
    view = memoryview(b"abc")
    view.release()
    return view


def running_coroutine() -> Any:
    async def wait() -> None:
        await asyncio.sleep(0)

    coroutine = wait()
    coroutine.close()
    return coroutine


def dead_reference() -> Any:
    return weakref.proxy(Point())


def unfinished_object() -> Any:
    return Slotted.__new__(Slotted)


def bare_date() -> Any:
    return StrIsodate(2024, 2, 29)


HOSTILE: list[tuple[str, Callable[[], Any]]] = [
    ("none", lambda: None),
    ("true", lambda: True),
    ("false", lambda: False),
    ("ellipsis", lambda: ...),
    ("not implemented", lambda: NotImplemented),
    ("int zero", lambda: 0),
    ("int smallest of 64 bits", lambda: -(2**63)),
    ("int largest of 64 bits", lambda: 2**63 - 1),
    ("int one below 64 bits", lambda: -(2**63) - 1),
    ("int one above 64 bits", lambda: 2**63),
    ("int unsigned 64 bits", lambda: 2**64 - 1),
    ("int of 600 digits", lambda: 10**600),
    ("int of 5,000 digits", lambda: -(10**5000)),
    ("int of 100,000 digits", lambda: 10**100_000),
    ("int subclass that raises", lambda: EvilInt(5)),
    ("int subclass beyond 64 bits", lambda: EvilInt(2**70)),
    ("float zero negative", lambda: -0.0),
    ("float not a number", lambda: math.nan),
    ("float infinite", lambda: math.inf),
    ("float infinite negative", lambda: -math.inf),
    ("float smallest", lambda: 5e-324),
    ("float largest", lambda: sys.float_info.max),
    ("float subclass that raises", lambda: EvilFloat(1.5)),
    ("complex", lambda: complex(1, math.nan)),
    ("str empty", lambda: ""),
    ("str with NUL", lambda: "a\x00b"),
    ("str lone high surrogate", lambda: "\ud800"),
    ("str lone low surrogate inside", lambda: "a\udcffb"),
    ("str surrogate pair unjoined", lambda: "\ud83d\ude00"),
    ("str beyond the basic plane", lambda: "\U0001f600\U0010ffff"),
    ("str bidirectional controls", lambda: "\u202eabc\u2066"),
    ("str combining", lambda: "e" + "\u0301" * 50),
    ("str control characters", lambda: "\r\n\t\x1b[31m\x7f\x85\u2028"),
    ("str percent signs", lambda: "%s %d %(a)s {0}"),
    ("str huge", lambda: "x" * 1_000_000),
    ("str huge not ASCII", lambda: "\xe9" * 500_000),
    ("str subclass that raises", lambda: EvilStr("evil")),
    ("str user string", lambda: collections.UserString("user string")),
    ("bytes empty", lambda: b""),
    ("bytes all", lambda: bytes(range(256))),
    ("bytes huge", lambda: b"x" * 1_000_000),
    ("bytes subclass that raises", lambda: EvilBytes(b"evil")),
    ("bytearray", lambda: bytearray(b"\x00\xff")),
    ("memoryview", lambda: memoryview(b"abc")),
    ("memoryview with steps", lambda: memoryview(b"abcdef")[::2]),
    ("memoryview of integers", lambda: memoryview(array.array("i", [1, 2]))),
    ("memoryview released", released_view),
    ("array", lambda: array.array("d", [1.0])),
    ("list empty", list),
    ("list mixed", lambda: [1, "a", None, 2.5, True, b"b", [], {}]),
    ("list huge", lambda: list(range(100_000))),
    ("list holding itself", self_holding_list),
    ("list 10,000 deep", deep_list),
    ("list sharing its parts", wide_sharing),
    ("list subclass that raises", lambda: EvilList([1, 2])),
    ("list of hostile", lambda: [RaisingBoth(), "good", StoppingStr(), EvilStr("x")]),
    ("list user list", lambda: collections.UserList([1, 2])),
    ("tuple empty", tuple),
    ("tuple nested", lambda: (1, (2, (3,)))),
    ("tuple holding itself", self_holding_tuple),
    ("dict empty", dict),
    ("dict nested", lambda: {"a": {"b": {"c": [1]}}}),
    ("dict holding itself", self_holding_dict),
    ("dict 10,000 deep", deep_dict),
    # Of each key that is no text the SDK writes a warning.
    ("dict huge", lambda: dict.fromkeys([*range(1_000), *map(str, range(1_000, 100_000))], 1)),
    ("dict keys of all kinds", lambda: {None: 1, True: 2, 3.5: 4, b"\xff": 5, (1, 2): 6, Color.RED: 7, frozenset(): 8}),
    ("dict keys that become equal", lambda: {1: "a", "1": "b", b"1": "c", 1.5: "d", "1.5": "e"}),
    ("dict empty key", lambda: {"": 1}),
    ("dict surrogate key", lambda: {"\ud800": 1, "\\ud800": 2}),
    ("dict huge key", lambda: {"k" * 100_000: 1, "k" * 100_001: 2}),
    ("dict key that raises", lambda: {RaisingBoth(): 1, HashableEvilStr("evil"): 2}),
    ("dict subclass that raises", lambda: EvilDict(a=1)),
    ("dict ordered", lambda: collections.OrderedDict(b=1, a=2)),
    ("dict default", lambda: collections.defaultdict(list, a=[1])),
    ("dict counter", lambda: collections.Counter("aab")),
    ("dict chain", lambda: collections.ChainMap({"a": 1}, {"b": 2})),
    ("dict user dict", lambda: collections.UserDict(a=1)),
    ("dict proxy", lambda: types.MappingProxyType({"a": 1})),
    ("dict views", lambda: [{"a": 1}.keys(), {"a": 1}.values(), {"a": 1}.items()]),
    ("dict weak", lambda: weakref.WeakValueDictionary(a=Color)),
    ("set", lambda: {1, "a"}),
    ("frozenset nested", lambda: frozenset({frozenset({1})})),
    ("deque", lambda: collections.deque([1, 2], maxlen=2)),
    ("deque holding itself", self_holding_deque),
    ("range huge", lambda: range(10**30)),
    ("generator", lambda: (number for number in itertools.count())),
    ("iterator", lambda: iter([1, 2])),
    ("iterator endless", itertools.count),
    ("map", lambda: map(operator.truediv, [1], [0])),
    ("file", lambda: io.StringIO("a\nb")),
    ("coroutine", running_coroutine),
    ("mapping with a raising item", HalfMapping),
    ("mapping whose keys break off", BrokenMapping),
    ("mapping without end", EndlessMapping),
    ("sequence that lies about its length", LyingSequence),
    ("sequence that breaks off", BrokenSequence),
    ("sequence without end", EndlessSequence),
    ("sequence of itself", SelfSequence),
    ("dataclass", Point),
    ("dataclass with a secret", Secretive),
    ("dataclass with slots, one unset", Slotted),
    ("dataclass never initialised", unfinished_object),
    ("dataclass with class variables", lambda: WithClassVar(start=1)),
    ("dataclass holding itself", self_holding_dataclass),
    ("dataclass 10,000 deep", deep_dataclass),
    ("dataclass that answers nothing", EvilDataclass),
    ("dataclass that is none", FakeDataclass),
    ("dataclass type", lambda: Point),
    ("namedtuple", lambda: Pair(1, [2])),
    ("namedtuple that is none", lambda: FakeNamedTuple([1, 2])),
    ("struct sequence", lambda: sys.version_info),
    ("enum", lambda: Color.RED),
    ("enum of a tuple", lambda: Color.SHAPES),
    ("enum of enums", nested_enum),
    ("enum whose value is itself", lambda: EvilEnum.ONE),
    ("enum int", lambda: Level.LOW),
    ("enum flag", lambda: Access.READ | Access.WRITE),
    ("enum str", lambda: Word.HELLO),
    ("enum type", lambda: Color),
    ("uuid", lambda: uuid.UUID(int=1)),
    ("decimal", lambda: decimal.Decimal("1.50")),
    ("decimal not a number", lambda: decimal.Decimal("NaN")),
    ("decimal signalling", lambda: decimal.Decimal("sNaN")),
    ("decimal huge", lambda: decimal.Decimal("1e999999")),
    ("fraction", lambda: fractions.Fraction(1, 3)),
    ("datetime naive", lambda: dt.datetime(2024, 2, 29, 12)),  # noqa: DTZ001
    ("datetime aware", lambda: dt.datetime(2024, 2, 29, tzinfo=dt.timezone.utc)),
    ("datetime of a raising zone", lambda: dt.datetime(2024, 2, 29, tzinfo=EvilZone())),
    ("datetime smallest", lambda: dt.datetime.min),
    ("date", lambda: dt.date(2024, 2, 29)),
    ("date whose text is none", bare_date),
    ("time", lambda: dt.time(12, 30, tzinfo=dt.timezone.utc)),
    ("timedelta", lambda: dt.timedelta(days=-1, microseconds=1)),
    ("timezone", lambda: dt.timezone.utc),
    ("path", lambda: pathlib.PurePosixPath("/tmp/a\udcff")),
    ("address", lambda: ipaddress.ip_address("::1")),
    ("pattern", lambda: re.compile("a+")),
    ("match", lambda: re.match("a", "a")),
    ("type", lambda: int),
    ("type of a hostile metaclass", lambda: OfEvilMeta),
    ("generic alias", lambda: list[int]),
    ("function", lambda: self_holding_dict),
    ("lambda", lambda: lambda: None),
    ("builtin", lambda: len),
    ("method", lambda: Point().__eq__),
    ("partial", lambda: functools.partial(print, RaisingBoth())),
    ("module", lambda: sys),
    ("code", lambda: self_holding_dict.__code__),
    ("frame", lambda: sys._getframe()),
    ("lock", threading.Lock),
    ("thread", threading.current_thread),
    ("queue", queue.SimpleQueue),
    ("context variable", lambda: contextvars.ContextVar("variable")),
    ("context", contextvars.copy_context),
    ("weak reference", lambda: weakref.ref(Color)),
    ("weak proxy of the dead", dead_reference),
    ("namespace", lambda: types.SimpleNamespace(a=1)),
    ("plain object", object),
    ("object with __del__ that logs", WithDel),
    ("model", lambda: Model(a=1, b=[uuid.UUID(int=1)])),
    ("model that raises", RaisingModel),
    ("model that dumps itself", SelfModel),
    ("model without end", EndlessModel),
    ("model holding itself", lambda: (lambda model: (model.content.update(me=model), model)[1])(Model(a=1))),
    ("model type", lambda: Model),
    ("attrs-like", AttrsLike),
    ("attrs-like that is none", FakeAttrs),
    ("array scalar", lambda: ArrayScalar(7)),
    ("array scalar beyond 64 bits", lambda: ArrayScalar(2**64)),
    ("array scalar date", lambda: ArrayScalar(1_700_000_000_000_000_000, "M")),
    ("array scalar of an object", lambda: ArrayScalar(RaisingBoth())),
    ("array scalar that raises", lambda: ArrayScalar(Stop("no item"))),
    ("array scalar type", lambda: ArrayScalar),
    ("str that raises", RaisingStr),
    ("str and repr that raise", RaisingBoth),
    ("str that raises no Exception", StoppingStr),
    ("str that is no text", NoTextStr),
    ("str that is a subclass", SubclassStr),
    ("str that cannot be encoded", SurrogateStr),
    ("str that recurses", RecursingStr),
    ("str that logs", LoggingStr),
    ("format that raises", SelfFormattingStr),
    ("class that lies", LyingClass),
    ("class that raises", RaisingClass),
    ("class that says it is a dict", LyingDict),
    ("getattr that raises", RaisingGetattr),
    ("getattribute that raises", RaisingGetattribute),
    ("answers everything", AnswersEverything),
    ("no truth, no equality, no hash", FalseAndUnequal),
    ("instance of a hostile metaclass", lambda: OfEvilMeta()),
    ("error", lambda: ValueError("boom")),
    ("error raised", raised_error),
    ("error chained", chained_error),
    ("error caused by itself", self_causing_error),
    ("error whose str raises", Bad),
    ("error that is no Exception", lambda: Stop("stop")),
    ("error that stops the interpreter", lambda: SystemExit(3)),
    ("error group", group_error),
    ("error type", lambda: ValueError),
    ("error traceback", lambda: raised_error().__traceback__),
]
