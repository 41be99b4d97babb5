"""Classes whose attributes are rows of the table, and whose instances hold the rows' values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, NoReturn, TypeVar

from otelog._config.kinds import Option

__all__ = ["Values"]

Self = TypeVar("Self", bound="Values")


class Values:
    """Values of the rows that stand in the class's body and in those of its bases.

    ``rows`` has them by their attributes' names; a row's own name, the keyword, has the class's prefix before it.
    A subclass may be ``without`` some of its bases' rows. Nothing changes once it is made, so any
    thread may use it.

    Args:
        values: By the attributes' names, as they are, see `checked`; for the others the rows' defaults hold.
    """

    prefix: ClassVar[str] = ""
    rows: ClassVar[Mapping[str, Option[Any]]] = {}

    def __init_subclass__(cls, *, prefix: str | None = None, without: Collection[str] = ()) -> None:
        cls.prefix = cls.prefix if prefix is None else prefix
        rows: dict[str, Option[Any]] = {}
        for base in cls.__bases__:
            rows.update(getattr(base, "rows", {}))
        for key, row in vars(cls).items():
            if isinstance(row, Option):
                row.name = cls.prefix + key
                rows[key] = row
        cls.rows = {key: row for key, row in rows.items() if key not in without}

    def __init__(self, **values: Any) -> None:
        for name in values:
            if name not in self.rows:
                raise TypeError(f"{type(self).__name__} has no option {name!r}")
        self._hold({**{name: row.default for name, row in self.rows.items()}, **values})

    def _hold(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def changed(self: Self, **changes: Any) -> Self:
        """Returns the same values with these changes."""
        new = object.__new__(type(self))
        new._hold({**vars(self), **changes})
        return new

    def checked(self: Self) -> Self:
        """Returns the values as their rows allow them.

        Raises:
            ConfigurationError: One is not allowed; the message says what is.
        """
        values = dict(vars(self))
        for name, row in self.rows.items():
            # None is "not given" where that may be.
            if values[name] is not None or row.default is not None:
                values[name] = row.check(values[name], name, argument=True)
        return self.changed(**values)

    @classmethod
    def pick(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what is the class's own of more, such as a constructor's ``locals()``, by the attributes' names."""
        return {name: given[name] for name in cls.rows}
