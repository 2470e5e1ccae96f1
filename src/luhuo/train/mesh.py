"""The grid in which the processes of a run stand: copies x FSDP x experts x tensor parallelism."""

from __future__ import annotations

import itertools
import math

from torch import distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from luhuo.train.parallel_config import DIMENSIONS, Parallel
from luhuo.train.pieces import Member


class Mesh:
    """Sizes and this process's place, by dimension; groups of processes that differ in some dimensions only."""

    def __init__(self, sizes: dict[str, int], kind: str) -> None:
        self.sizes, self.kind = sizes, kind
        self.count = math.prod(sizes.values())
        rank = distributed.get_rank() if self.count > 1 else 0
        self.place: dict[str, int] = {}
        for name in reversed(DIMENSIONS):
            rank, self.place[name] = divmod(rank, sizes[name])
        self.devices: DeviceMesh | None = None
        if self.count > 1:
            self.devices = init_device_mesh(kind, tuple(sizes[name] for name in DIMENSIONS), mesh_dim_names=DIMENSIONS)
        self._groups: dict[tuple[str, ...], distributed.ProcessGroup | None] = {}

    @property
    def data(self) -> Member:
        """Which share of the data is this process's: those of a tensor-parallel group read the same."""
        index = 0
        for name in ("dp", "fsdp", "ep"):
            index = index * self.sizes[name] + self.place[name]
        return Member(index, self.count // self.sizes["tp"], None)

    def member(self, *names: str) -> Member:
        """This process among those that differ from it in these dimensions only. All processes call this together."""
        names = tuple(name for name in DIMENSIONS if name in names)
        index = 0
        for name in names:
            index = index * self.sizes[name] + self.place[name]
        return Member(index, math.prod(self.sizes[name] for name in names), self._group(names))

    def _group(self, names: tuple[str, ...]) -> distributed.ProcessGroup | None:
        """The group over some dimensions; None for that of all processes, or for this one alone."""
        free = tuple(name for name in names if self.sizes[name] > 1)
        if not free or all(self.sizes[name] == 1 or name in free for name in DIMENSIONS):
            return None
        if free not in self._groups:
            if len(free) == 1 and self.devices is not None:
                self._groups[free] = self.devices.get_group(free[0])
            else:
                mine, _ = distributed.new_subgroups_by_enumeration(self._enumerate(free))
                assert isinstance(mine, distributed.ProcessGroup)
                self._groups[free] = mine
        return self._groups[free]

    def _enumerate(self, free: tuple[str, ...]) -> list[list[int]]:
        """Every group of ranks that differ in the `free` dimensions only."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for rank, place in enumerate(itertools.product(*(range(self.sizes[name]) for name in DIMENSIONS))):
            fixed = tuple(at for name, at in zip(DIMENSIONS, place, strict=True) if name not in free)
            groups.setdefault(fixed, []).append(rank)
        return list(groups.values())


_ALONE = Mesh(dict.fromkeys(DIMENSIONS, 1), "cpu")
_known: dict[tuple[int, ...], Mesh] = {}
_current: list[Mesh] = []
_world: list[object] = []


def use(parallel: Parallel) -> Mesh:
    """Arrange the processes as `parallel` says, from now on. Raises `LuhuoError` if they do not fit."""
    count = distributed.get_world_size() if distributed.is_initialized() else 1
    sizes = parallel.sizes(count)
    if count == 1:
        return _ALONE
    if _world[:] != [distributed.group.WORLD]:  # a new life of torch.distributed
        _world[:] = [distributed.group.WORLD]
        _known.clear()
    key = tuple(sizes.values())
    if key not in _known:
        _known[key] = Mesh(sizes, "cuda" if "nccl" in distributed.get_backend_config() else "cpu")
    _current[:] = [_known[key]]
    return _known[key]


def current() -> Mesh:
    """The arrangement in force; copies of the model where nothing was said."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return _ALONE
    return _current[0] if _current and _world == [distributed.group.WORLD] else use(Parallel())
