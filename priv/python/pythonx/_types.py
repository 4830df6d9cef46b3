"""Python's own types as Elixir has them, both ways: behind `types: :rich`."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import os
import pathlib
import sys
import uuid

import _pythonx

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_Atom = _pythonx.Atom
_STRUCT = _Atom("__struct__")
_CALENDAR = (_Atom("calendar"), _Atom("Elixir.Calendar.ISO"))


def _struct(name: str, *fields: str) -> Callable[..., dict[Any, Any]]:
    """Return a function that makes a struct of its fields: decoded, a dict with atoms as keys is one."""
    module = _Atom(f"Elixir.{name}")
    keys = [_Atom(field) for field in fields]

    def make(*values: object) -> dict[Any, Any]:
        return {_STRUCT: module, **dict(zip(keys, values, strict=True))}

    return make


_DATE_FIELDS = ("calendar", "year", "month", "day")
_TIME_FIELDS = ("hour", "minute", "second", "microsecond")
_date = _struct("Date", *_DATE_FIELDS)
_time = _struct("Time", "calendar", *_TIME_FIELDS)
_naive = _struct("NaiveDateTime", *_DATE_FIELDS, *_TIME_FIELDS)
_zoned = _struct(
    "DateTime", *_DATE_FIELDS, *_TIME_FIELDS, "time_zone", "zone_abbr", "utc_offset", "std_offset"
)
_duration = _struct("Duration", "year", "month", "week", "day", *_TIME_FIELDS)
_decimal = _struct("Decimal", "sign", "coef", "exp")
_range = _struct("Range", "first", "last", "step")
_ISO = _CALENDAR[1]


def _convert_date(value: datetime.date) -> object:
    return _date(_ISO, value.year, value.month, value.day)


def _convert_time(value: datetime.time) -> object:
    # Elixir has no time with an offset, and none that says which of two it is.
    if value.tzinfo is not None or value.fold:
        return NotImplemented
    return _time(_ISO, value.hour, value.minute, value.second, (value.microsecond, 6))


def _convert_datetime(value: datetime.datetime) -> object:
    fields = (_ISO, value.year, value.month, value.day)
    fields += (value.hour, value.minute, value.second, (value.microsecond, 6))
    offset = value.utcoffset()
    if offset is None:
        # Elixir's has no word for the second of the hours that a change of the clocks repeats.
        return NotImplemented if value.tzinfo is not None or value.fold else _naive(*fields)
    saved = value.dst() or datetime.timedelta(0)
    # Elixir counts offsets in seconds.
    if offset.microseconds or saved.microseconds:
        return NotImplemented
    zone, abbreviation = _zone_names(value)
    total, summer = (part.days * 86400 + part.seconds for part in (offset, saved))
    return _zoned(*fields, zone, abbreviation, total - summer, summer)


def _zone_names(value: datetime.datetime) -> tuple[str, str]:
    if value.tzinfo is datetime.timezone.utc:
        return "Etc/UTC", "UTC"
    name = value.tzname() or ""
    key = getattr(value.tzinfo, "key", None) or getattr(value.tzinfo, "zone", None)
    if not isinstance(key, str):
        key = name
    # The name that Elixir knows without a time zone database; some libraries have a class of their own for it.
    return ("Etc/UTC" if key == "UTC" and not value.utcoffset() else key), name


def _convert_timedelta(value: datetime.timedelta) -> object:
    return _duration(0, 0, 0, value.days, 0, 0, value.seconds, (value.microseconds, 6))


def _convert_decimal(value: decimal.Decimal) -> object:
    sign, digits, exponent = value.as_tuple()
    sign = -1 if sign else 1
    if isinstance(exponent, int):
        # Through a Decimal, as an int of decimal text is limited to 4300 digits.
        return _decimal(sign, int(decimal.Decimal((0, digits, 0))), exponent)
    if exponent == "F":
        return _decimal(sign, _Atom("inf"), 0)
    # A signalling NaN, or one that carries a number, would lose that.
    return NotImplemented if exponent == "N" or digits else _decimal(sign, _Atom("NaN"), 0)


def _convert_range(value: range) -> object:
    one = 1 if value.step > 0 else -1
    return _range(value.start, value.stop - one, value.step)


def _convert_path(value: pathlib.PurePath) -> object:
    return os.fspath(value)


def _convert_enum(value: enum.Enum) -> object:
    inner = value.value
    return NotImplemented if type(inner) is _pythonx.Function else inner


def _convert_dataclass(value: Any) -> object:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _convert_namedtuple(value: Any) -> object:
    return dict(zip(value._fields, value, strict=True))


def _convert_complex(value: complex) -> object:
    return value.real, value.imag


def _convert_numpy(value: Any) -> object:
    # Dates of numpy have units that Elixir's have not; a longdouble is its own item.
    if value.dtype.kind not in "biufcSU":
        return NotImplemented
    item = value.item()
    return NotImplemented if item is value or type(item) is type(value) else item


_EXACT: dict[type, Callable[[Any], object]] = {
    datetime.datetime: _convert_datetime,
    datetime.date: _convert_date,
    datetime.time: _convert_time,
    datetime.timedelta: _convert_timedelta,
    decimal.Decimal: _convert_decimal,
    range: _convert_range,
    bytearray: bytes,
    memoryview: memoryview.tobytes,
    complex: _convert_complex,
    uuid.UUID: str,
}

_PLAIN = (type(None), bool, int, float, str, bytes, list, tuple, dict, set, frozenset)


def _find(value: object, cls: type) -> Callable[[Any], object] | None:
    """Return what converts the instances of a class that is not in the table."""
    if isinstance(value, enum.Enum):
        return _convert_enum
    if hasattr(cls, "__dataclass_fields__"):
        return _convert_dataclass
    if isinstance(value, tuple) and isinstance(getattr(cls, "_fields", None), tuple):
        return _convert_namedtuple
    if isinstance(value, pathlib.PurePath):
        return _convert_path
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return _convert_numpy
    return _find_subclass(value, cls)


def _find_subclass(value: Any, cls: type) -> Callable[[Any], object] | None:
    for base in cls.__mro__:
        if base in _EXACT:
            return _EXACT[base] if _is_exact(value, base) else None
    return None


def _is_exact(value: Any, base: type) -> bool:
    """Whether an instance of a subclass holds no more than one of the class: those of pandas may."""
    if base in (datetime.datetime, datetime.date):
        return isinstance(value.year, int) and not getattr(value, "nanosecond", 0)
    return base is not datetime.timedelta or not getattr(value, "nanoseconds", 0)


# Decoders that Elixir has registered, by the names of their classes.
_registered: dict[str, Any] = {}


def class_name(cls: type) -> str:
    """Return the name of a class as decoders are registered by it."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def name_of(value: object) -> str | None:
    """Return the name of a class, None for anything else."""
    return class_name(value) if isinstance(value, type) else None


def register(name: str, function: Any) -> str | None:
    """Register an Elixir function as the decoder of a class, or return why not."""
    if any(name == class_name(cls) for cls in _PLAIN):
        return f"objects of the type {name} are decoded as they are"
    _registered[name] = function
    return None


def unregister(name: str) -> bool:
    """Take a decoder back. Return whether there was one."""
    return _registered.pop(name, None) is not None


def registered() -> list[str]:
    """Return the names of the classes that have a decoder."""
    return sorted(_registered)


def _decoder(cls: type) -> Any:
    for base in cls.__mro__:
        function = _registered.get(class_name(base))
        if function is not None:
            return function
    return None


def converter(durations: bool, decimals: bool) -> Callable[[object], object]:
    """Return what the decoding walk calls for each object that is not of a plain built-in type.

    Args:
        durations: Whether Elixir has the struct Duration.
        decimals: Whether it has the struct Decimal.
    """
    missing = [
        cls for cls, there in ((datetime.timedelta, durations), (decimal.Decimal, decimals)) if not there
    ]

    def convert(value: object) -> object:
        cls = type(value)
        if _registered:
            function = _decoder(cls)
            if function is not None:
                return function
        function = _EXACT.get(cls) or _find(value, cls)
        if function is None or (missing and isinstance(value, tuple(missing))):
            return NotImplemented
        return function(value)

    return convert


def _build_datetime(fields: tuple[int, ...], zone: str, abbreviation: str, offset: int) -> datetime.datetime:
    value = datetime.datetime(*fields)
    wanted = datetime.timedelta(seconds=offset)
    if zone == "Etc/UTC" and not wanted:
        return value.replace(tzinfo=datetime.timezone.utc)
    if zone == abbreviation:
        # Decoded from a fixed offset, which has no other name.
        return value.replace(tzinfo=datetime.timezone(wanted, zone))
    import zoneinfo

    value = value.replace(tzinfo=zoneinfo.ZoneInfo(zone))
    # An hour that a change of the clocks repeats.
    if value.utcoffset() != wanted:
        value = value.replace(fold=1)
    if value.utcoffset() != wanted:
        raise ValueError(
            f"the offset of {value.replace(fold=0)} in {zone} is not {wanted} in Python's database"
        )
    return value


def _build_decimal(negative: bool, digits: str, exponent: int) -> decimal.Decimal:
    sign = "-" if negative else ""
    return decimal.Decimal(f"{sign}{digits}E{exponent}" if digits.isdigit() else sign + digits)


def _build_timedelta(days: int, seconds: int, microseconds: int) -> datetime.timedelta:
    return datetime.timedelta(days, seconds, microseconds)


_BUILDERS: dict[str, Callable[..., object]] = {
    "date": datetime.date,
    "time": datetime.time,
    "naive": datetime.datetime,
    "datetime": _build_datetime,
    "decimal": _build_decimal,
    "range": range,
    "timedelta": _build_timedelta,
}


def build(descriptions: list[tuple[Any, ...]]) -> list[object]:
    """Return the objects for structs, each told as the name of a builder and its arguments."""
    return [_BUILDERS[name](*arguments) for name, *arguments in descriptions]
