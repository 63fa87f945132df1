"""Properties of datasets as objects: ZFSProperty, ZFSUserProperty, ZFSPropertyDict.

A property holds what its listing found; setting or inheriting is one command. The object keeps
its value until `refresh`, and the dataset forgets its own, so the next `properties` is new.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex

from backends.libzfs import run
from backends.libzfs.enums import PropertySource
from backends.libzfs.listing import Row, Rows
from backends.libzfs.native import BY_NAME, of_type
from backends.libzfs.values import parse_zfs_prop, serialize_zfs_prop, shown

if TYPE_CHECKING:
    from backends.libzfs.objects import ZFSObject

_ABSENT = Row("", PropertySource.NONE, "")


class ZFSProperty:
    """One of ZFS's own properties of one dataset; empty where the dataset has no value for it."""

    dataset: "ZFSObject | None"
    _name: str
    _row: Row

    def __init__(self) -> None:
        raise RuntimeError("ZFSProperty cannot be instantiated by the user")

    @classmethod
    def _of(cls, dataset: "ZFSObject", name: str, row: Row) -> "ZFSProperty":
        self = cls.__new__(cls)
        self.dataset = dataset
        self._name = name
        self._row = row
        return self

    def asdict(self) -> dict[str, Any]:
        """value, rawvalue, parsed and the name of the source."""
        return {
            "value": self.value,
            "rawvalue": self.rawvalue,
            "parsed": self.parsed,
            "source": self.source.name if self.source else None,
        }

    def __str__(self) -> str:
        return f"<libzfs.{type(self).__name__} name '{self.name}' value '{self.value}'>"

    __repr__ = __str__

    def _attached(self) -> "ZFSObject":
        if self.dataset is None:
            raise ValueError(f"the property {self._name!r} belongs to no dataset yet")
        return self.dataset

    def refresh(self) -> None:
        """Read the property again."""
        dataset = self._attached()
        dataset._forget()
        self._row = dataset._rows().get(self._name, _ABSENT)

    @property
    def name(self) -> str:
        """The property's name."""
        return self._name

    @property
    def value(self) -> str:
        """The value as `zfs get` prints it; setting it is `zfs set`."""
        text = shown(self._name, self._row.raw)
        if text is None:
            argv = ["zfs", "get", "-H", "-o", "value", self._name, self._attached().name]
            text = run.run(argv).removesuffix("\n")
        return text

    @value.setter
    def value(self, value: object) -> None:
        dataset = self._attached()
        run.run(["zfs", "set", f"{self._name}={value}", dataset.name])
        dataset._forget()

    @property
    def rawvalue(self) -> str:
        """The value as `zfs get -p` prints it: numbers in full, times in seconds."""
        return self._row.raw

    @property
    def source(self) -> PropertySource | None:
        """Where the value comes from."""
        return self._row.source

    @property
    def source_info(self) -> str:
        """The dataset that the value is inherited from; empty if it is not."""
        return self._row.source_info

    @property
    def parsed(self) -> Any:
        """The value in Python: an int, a bool, a datetime in UTC, a str, or None for none."""
        return parse_zfs_prop(self._name, self.rawvalue)

    @parsed.setter
    def parsed(self, value: object) -> None:
        self.value = serialize_zfs_prop(self._name, value)

    @property
    def allowed_values(self) -> str | None:
        """What the property takes, for people: "on | off | noauto"."""
        native = BY_NAME.get(self._name)
        return native.values if native else None

    def inherit(self, recursive: bool = False, received: bool = False) -> None:
        """`zfs inherit`: drop the local value, here or in the whole subtree.

        `received`: go back to the received value, if there is one.
        """
        dataset = self._attached()
        options = [*(["-r"] if recursive else []), *(["-S"] if received else [])]
        run.run(["zfs", "inherit", *options, self._name, dataset.name])
        dataset._forget()


class ZFSUserProperty(ZFSProperty):
    """A property with a colon in its name; made with its value, then put into a ZFSPropertyDict."""

    def __init__(self, value: object) -> None:
        self.dataset = None
        self._name = ""
        self._row = Row(str(value), PropertySource.NONE, "")

    @property
    def value(self) -> str:
        """The value; setting it is `zfs set`, or nothing but that while it has no dataset."""
        return self._row.raw

    @value.setter
    def value(self, value: object) -> None:
        if self.dataset is not None:
            run.run(["zfs", "set", f"{self._name}={value}", self.dataset.name])
            self.dataset._forget()
        self._row = Row(str(value), PropertySource.LOCAL, "")

    @property
    def source(self) -> PropertySource | None:
        """Where the value comes from; None while the property has no dataset."""
        return None if self.dataset is None else self._row.source

    @property
    def allowed_values(self) -> str | None:
        """None: a user property takes any text."""
        return None

    def _attach(self, dataset: "ZFSObject", name: str) -> None:
        self.dataset, self._name = dataset, name


class ZFSPropertyDict(dict[str, ZFSProperty]):
    """All properties of a dataset by name.

    Only a ZFSUserProperty can be put in, which sets it; `del` inherits the property in the whole
    subtree. Ways to change a dict that have no such meaning raise NotImplementedError.
    """

    def __init__(self, parent: "ZFSObject") -> None:
        super().__init__()
        self._parent = parent
        self.refresh()

    def refresh(self) -> None:
        """Read every property again."""
        rows = self._parent._rows()
        super().clear()
        for native in of_type(self._parent.type, run.version()):
            if native.name == "name":
                row = Row(self._parent.name, PropertySource.NONE, "")
            else:
                row = rows.get(native.name, _ABSENT)
            super().__setitem__(native.name, ZFSProperty._of(self._parent, native.name, row))
        for name, row in rows.items():
            if name not in self:
                super().__setitem__(name, _property(self._parent, name, row))

    def __delitem__(self, key: str) -> None:
        self[key].inherit(recursive=True)

    def __setitem__(self, key: str, value: ZFSProperty) -> None:
        if type(value) is not ZFSUserProperty:
            raise ValueError("Value should be of type ZFSUserProperty")
        if value.dataset is None:
            run.run(["zfs", "set", f"{key}={value.value}", self._parent.name])
            self._parent._forget()
            value._row = Row(value.value, PropertySource.LOCAL, "")
            value._attach(self._parent, key)
        super().__setitem__(key, value)

    def has_key(self, key: str) -> bool:
        """Whether there is such a property."""
        return key in self

    def iterkeys(self) -> Iterable[str]:
        """The names."""
        return iter(self)

    def itervalues(self) -> Iterable[ZFSProperty]:
        """The properties."""
        return iter(self.values())

    def _refuse(self, *arguments: object, **keywords: object) -> NoReturn:
        raise NotImplementedError("set a property with d[name] = ZFSUserProperty(value)")

    update = _refuse
    clear = _refuse
    popitem = _refuse
    setdefault = _refuse

    def pop(self, key: str | SupportsIndex, *default: object) -> NoReturn:
        """Refused: a property is not removed but inherited, with `del`."""
        self._refuse()

    def __ior__(self, other: object) -> NoReturn:  # type: ignore[misc]
        self._refuse()


def _property(dataset: "ZFSObject", name: str, row: Row) -> ZFSProperty:
    kind = ZFSUserProperty if ":" in name else ZFSProperty
    return kind._of(dataset, name, row)


def serialized(name: str, rows: Rows, key: str, with_info: bool) -> dict[str, Any]:
    """One property as `datasets_serialized` and `snapshots_serialized` give it.

    `name` is the dataset's. A user property has no `source_info`, as in py-libzfs.
    """
    row = Row(name, PropertySource.NONE, "") if key == "name" else rows.get(key, _ABSENT)
    if ":" in key:
        value: str | None = row.raw
        return {"value": value, "rawvalue": value, "source": row.source.name, "parsed": value}
    text = shown(key, row.raw)
    entry = {
        "parsed": parse_zfs_prop(key, row.raw),
        "rawvalue": row.raw,
        "value": row.raw if text is None else text,
        "source": row.source.name,
    }
    if with_info:
        inherited = row.source is PropertySource.INHERITED
        entry["source_info"] = row.source_info if inherited else None
    return entry
