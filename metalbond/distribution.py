"""Who must be told what: the server's decisions without sockets and clocks.

The rule is one sentence: a subscriber has a route if anyone but itself announces it. ADD and REMOVE follow from
comparing that with what was written to its connection: a REMOVE goes exactly to those who got the ADD, what is undone
before it was written is never written. A queue never holds more entries than the tables that it describes.

Servers of a mesh have another rule: a mirror has a route, once per announcing client, if a client of this server
announces it. What came from a server goes to clients only. So every route takes one step between servers, whatever
their links look like, and none can go round in circles.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from metalbond.codec import Reflected
from metalbond.inspect import Recorder
from metalbond.rib import RouteTable
from metalbond.types import HopType, Route

K = TypeVar("K", bound=Hashable)

NAMELESS = b"\0"
"""How the names begin that servers make up for clients without one."""


class Outbox(Generic[K]):
    """What one connection has been told (`sent`) and must still be told, coalesced by key: the last wish wins."""

    def __init__(self) -> None:
        self.sent: set[K] = set()
        # Values are positions in the order of the wishes. OrderedDict, because taking from the front of a plain dict is
        # quadratic.
        self._adds: OrderedDict[K, int] = OrderedDict()
        self._removes: OrderedDict[K, int] = OrderedDict()
        self._marks: deque[int] = deque()
        self._position = 0

    def __len__(self) -> int:
        """Entries that wait to be written."""
        return len(self._adds) + len(self._removes)

    @property
    def marks(self) -> int:
        """Marks that wait."""
        return len(self._marks)

    def want(self, key: K, present: bool) -> bool:
        """State a wish; True if the receiver must be told something because of it."""
        if present == (key in self.sent):
            (self._removes if present else self._adds).pop(key, None)
            return False
        queue = self._adds if present else self._removes
        if key not in queue:
            self._position += 1
            queue[key] = self._position
        return True

    def mark(self) -> None:
        """Queue a mark: it leaves behind everything that waits now and before everything that comes later."""
        self._marks.append(self._position)

    def take(self, limit: int) -> list[tuple[bool, K] | None]:
        """Move at most `limit` entries from waiting to sent: (True for ADD, key), or None for a mark.

        Between marks removals go first: a receiver may keep one hop per destination only.
        """
        taken: list[tuple[bool, K] | None] = []
        while True:
            bound = self._marks[0] if self._marks else self._position
            for add, queue in ((False, self._removes), (True, self._adds)):
                while queue and len(taken) < limit:
                    key, position = queue.popitem(last=False)
                    if position > bound:
                        queue[key] = position
                        queue.move_to_end(key, last=False)
                        break
                    taken.append((add, key))
                    (self.sent.add if add else self.sent.discard)(key)
            if not self._marks or len(taken) >= limit:
                return taken
            self._marks.popleft()
            taken.append(None)

    def forget(self, match: Callable[[K], bool]) -> None:
        """The receiver has dropped matching entries by itself; wishes for them are dropped too."""
        for keys in (self.sent, self._adds, self._removes):
            for key in [k for k in keys if match(k)]:
                if isinstance(keys, set):
                    keys.discard(key)
                else:
                    del keys[key]


@dataclass(slots=True)
class Subscriber:
    number: int
    origin: Hashable
    """Routes of the same origin are its own: a name that survives reconnects, or the number of the connection."""
    original: bool
    """Speaks the original protocol."""
    subscriptions: set[int] = field(default_factory=set)
    outbox: Outbox[Route] = field(default_factory=Outbox)


class Distributor:
    """Table, subscriptions and outboxes of the server `name`. Peers are numbers that are never used twice."""

    def __init__(self, name: bytes = b"") -> None:
        self._name = name
        self.table: RouteTable[int] = RouteTable()
        self._peers: dict[int, Subscriber] = {}
        self._origins: dict[int, Hashable] = {}
        self._of_vni: dict[int, dict[int, Subscriber]] = {}
        self._mirrors: dict[int, Outbox[Reflected]] = {}
        self._remote: set[int] = set()
        self._nameless: set[int] = set()
        self._touched: set[int] = set()
        self.changes = Recorder()

    def connect(self, peer: int, identity: bytes = b"", *, original: bool = False) -> Subscriber:
        origin: Hashable = identity or peer
        self._origins[peer] = origin
        self._peers[peer] = Subscriber(peer, origin, original)
        return self._peers[peer]

    def mirror(self, peer: int) -> Outbox[Reflected]:
        """A server of the mesh wants what the clients of this one announce, in all VNIs."""
        outbox = self._mirrors[peer] = Outbox()
        for vni in self.table.vnis():
            for route, sources in self.table.routes(vni):
                for source in sources:
                    if source not in self._remote:
                        outbox.want(Reflected(route, self._wire_origin(source)), True)
        self._touched.add(peer)
        return outbox

    def adopt(self, source: int, origin: bytes) -> None:
        """`source` stands for a client of another server of the mesh, `origin` is its name. `release` ends it."""
        self._origins[source] = origin
        self._remote.add(source)
        if origin.startswith(NAMELESS):
            self._nameless.add(source)

    def subscribe(self, peer: int, vni: int) -> bool:
        """Queue the table of the VNI; False if subscribed already.

        Peers of the original protocol also get their own routes back, except NAT: some learn the local targets of their
        load balancers in this way.
        """
        subscriber = self._peers[peer]
        if vni in subscriber.subscriptions:
            return False
        subscriber.subscriptions.add(vni)
        self._of_vni.setdefault(vni, {})[peer] = subscriber
        for route, sources in self.table.routes(vni):
            echo = subscriber.original and route.hop.type != HopType.NAT
            if echo or self._foreign(subscriber, sources):
                subscriber.outbox.want(route, True)
        self._touched.add(peer)
        return True

    def unsubscribe(self, peer: int, vni: int) -> bool:
        """False if not subscribed. A peer of the original protocol takes its own routes of the VNI away with it."""
        subscriber = self._peers[peer]
        if vni not in subscriber.subscriptions:
            return False
        self._drop_subscription(peer, subscriber, vni)
        subscriber.outbox.forget(lambda route: route.vni == vni)
        if subscriber.original:
            self._withdraw(peer, [route for route in self.table.of_source(peer) if route.vni == vni])
        return True

    def update(self, peer: int, add: bool, route: Route) -> bool:
        """False if the peer had said so before."""
        changed = self.table.add(peer, route) if add else self.table.remove(peer, route)
        if changed:
            self._distribute(peer, route)
        return changed

    def disconnect(self, peer: int, *, hold: bool = False) -> None:
        """The connection is gone. With `hold` its routes stay until `release`."""
        self._touched.discard(peer)
        if self._mirrors.pop(peer, None) is not None:
            return
        subscriber = self._peers.pop(peer)
        for vni in list(subscriber.subscriptions):
            self._drop_subscription(peer, subscriber, vni)
        if not hold:
            self.release(peer)

    def release(self, peer: int) -> None:
        """Withdraw everything that a disconnected peer has announced."""
        self._withdraw(peer, list(self.table.of_source(peer)))
        self._origins.pop(peer, None)
        self._remote.discard(peer)
        self._nameless.discard(peer)

    def take_touched(self) -> set[int]:
        """Peers whose outbox has got work since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    def connections(self, origin: Hashable) -> int:
        """Live connections of one origin."""
        return sum(subscriber.origin == origin for subscriber in self._peers.values())

    def subscriptions(self) -> int:
        return sum(len(peers) for peers in self._of_vni.values())

    def _withdraw(self, peer: int, routes: list[Route]) -> None:
        for route in routes:
            if self.table.remove(peer, route):
                self._distribute(peer, route)

    def _drop_subscription(self, peer: int, subscriber: Subscriber, vni: int) -> None:
        subscriber.subscriptions.discard(vni)
        peers = self._of_vni[vni]
        del peers[peer]
        if not peers:
            del self._of_vni[vni]

    def _distribute(self, source: int, route: Route) -> None:
        if self._mirrors and source not in self._remote:
            self._reflect(source, route)
        if self.changes.routes is not None:
            self.changes.routes.add(route)
        subscribers = self._of_vni.get(route.vni)
        if not subscribers:
            return
        sources = self.table.sources(route)
        touched = self._touched
        for peer, subscriber in subscribers.items():
            if subscriber.outbox.want(route, self._foreign(subscriber, sources)):
                touched.add(peer)

    def _foreign(self, subscriber: Subscriber, sources: tuple[int, ...]) -> bool:
        origins, origin = self._origins, subscriber.origin
        for source in sources:
            if origins[source] != origin:
                # A client without a name that has several servers cannot be recognized behind another server. What it
                # announces here as well is taken for its own.
                if source in self._nameless and subscriber.number in sources:
                    continue
                return True
        return False

    def _reflect(self, source: int, route: Route) -> None:
        origin = self._wire_origin(source)
        here = any(s not in self._remote and self._wire_origin(s) == origin for s in self.table.sources(route))
        for peer, outbox in self._mirrors.items():
            if outbox.want(Reflected(route, origin), here):
                self._touched.add(peer)

    def _wire_origin(self, source: int) -> bytes:
        origin = self._origins[source]
        return origin if isinstance(origin, bytes) else b"%s%s#%d" % (NAMELESS, self._name, source)
