"""The tables of a settings file, as pydantic checks them: `[workers]` and `[identities]`."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, field_validator

from toxmesh.identity.names import is_name
from toxmesh.settings import MAX_WORKERS, PORT_RANGE, ROLES, Identities, default_workers

Count = Annotated[StrictInt, Field(ge=0, le=MAX_WORKERS)]
Port = Annotated[StrictInt, Field(ge=0, le=65535)]
MOST_NAMED = 4096  # identities; thousands of them fit into a process


class WorkersTable(BaseModel):
    """How many worker processes each role has; 0 is off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dht: Count = Field(default_factory=lambda: default_workers()["dht"])
    onion: Count = Field(default_factory=lambda: default_workers()["onion"])
    relay: Count = Field(default_factory=lambda: default_workers()["relay"])
    net_crypto: Count | None = None
    messenger: Count | None = None

    def counts(self, hosts: bool) -> dict[str, int]:
        """Returns the number of each role; `hosts`: whether there are identities, whose roles are
        else not among them unless they were asked for."""
        given = self.model_dump()
        counts = {role: int(hosts) if given[role] is None else given[role] for role in given}
        return {role: counts[role] for role in counts if counts[role] or role in ROLES}


class IdentitiesTable(BaseModel):
    """Which identities the node hosts, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: Path | None = None
    profiles: tuple[StrictStr, ...] = ()
    accept: StrictBool = False
    echo: StrictBool = False
    udp_ports: tuple[Port, ...] = (PORT_RANGE[0], PORT_RANGE[-1])
    passphrase_file: Path | None = None

    @field_validator("directory", mode="before")
    @classmethod
    def _is_a_directory(cls, value: object) -> object:
        return path_of(value)

    @field_validator("passphrase_file", mode="before")
    @classmethod
    def _is_a_file(cls, value: object) -> object:
        return path_of(value, "a file")

    @field_validator("profiles")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > MOST_NAMED:
            raise ValueError(f"must have at most {MOST_NAMED} names, not {len(value)}")
        for name in value:
            if not is_name(name):
                raise ValueError(f"{name[:60]!r} is no name of a profile, which is NAME.tox")
        if len(set(value)) != len(value):
            raise ValueError("a profile is there twice")
        return value

    @field_validator("udp_ports")
    @classmethod
    def _are_a_range(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if value == (0,):
            return ()
        if len(value) != 2 or not 0 < value[0] <= value[1]:
            raise ValueError("must be the first and the last port to try, or [0] for no UDP")
        return value

    def plain(self) -> Identities:
        """Returns them as the node follows them."""
        values: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        for name in ("directory", "passphrase_file"):
            values[name] = "" if values[name] is None else str(values[name])
        return Identities(**values)


def path_of(value: object, what: str = "a directory") -> object:
    """Returns a path that was written as text, with `~` filled in. Raises ValueError."""
    if value is None or isinstance(value, Path):
        return value
    if not isinstance(value, str):
        shown = str(value).lower() if isinstance(value, bool) else repr(value)
        raise ValueError(f"must be a path in quotes, not {shown[:60]}")
    if not value or "\0" in value:
        raise ValueError(f"must name {what}")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"no home directory is known for {value!r}") from None
