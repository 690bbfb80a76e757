"""ObjectCache: whatever streams break and repeat, handlers see one gapless history that ends in the store's state."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from ironcore.apinet.v1 import network_pb2
from ironcore.meta.v1 import meta_pb2

from apimachinery.informer import Change, Key, ObjectCache, differences

ADDED, MODIFIED, DELETED = meta_pb2.EVENT_TYPE_ADDED, meta_pb2.EVENT_TYPE_MODIFIED, meta_pb2.EVENT_TYPE_DELETED
SYNCED, BOOKMARK, RESET = meta_pb2.MARK_TYPE_SYNCED, meta_pb2.MARK_TYPE_BOOKMARK, meta_pb2.MARK_TYPE_RESET
Response = network_pb2.NetworkWatchResponse


def network(name: str, revision: int, uid: str = "") -> network_pb2.Network:
    meta = meta_pb2.ObjectMeta(name=name, namespace="default", resource_version=revision, uid=uid or f"uid-{name}")
    return network_pb2.Network(metadata=meta)


def event(kind: "meta_pb2.EventType.ValueType", obj: network_pb2.Network) -> network_pb2.NetworkEvent:
    return network_pb2.NetworkEvent(type=kind, object=obj)


def mark(kind: "meta_pb2.MarkType.ValueType", revision: int) -> meta_pb2.WatchMark:
    return meta_pb2.WatchMark(type=kind, resource_version=revision)


@dataclass
class ModelServer:
    """A store with its history; answers a watch the way the contract says."""

    revision: int = 10
    objects: dict[str, network_pb2.Network] = field(default_factory=dict)
    history: list[network_pb2.NetworkEvent] = field(default_factory=list)
    compacted: int = 0

    def write(self, changes: dict[str, bool]) -> None:
        """One transaction: True puts the object, False deletes it (if it is there)."""
        self.revision += 1
        for name, put in changes.items():
            if put:
                obj = network(name, self.revision)
                self.history.append(event(MODIFIED if name in self.objects else ADDED, obj))
                self.objects[name] = obj
            elif name in self.objects:
                last = network(name, self.revision)
                self.history.append(event(DELETED, last))
                del self.objects[name]

    def watch(self, after: int) -> list[Response]:
        """All responses of a stream up to now, one event each, so that a cut may fall between any two."""
        if after and after >= self.compacted:
            replay = [e for e in self.history if e.object.metadata.resource_version > after]
            return [*(Response(events=[e]) for e in replay), Response(mark=mark(BOOKMARK, self.revision))]
        answers = [Response(mark=mark(RESET, self.revision))] if after else []
        answers += [Response(events=[event(ADDED, obj)]) for obj in self.objects.values()]
        return [*answers, Response(mark=mark(SYNCED, self.revision))]


WRITES = st.dictionaries(st.sampled_from("abcde"), st.booleans(), min_size=1, max_size=3)
CUTS = st.tuples(st.just("cut"), st.integers(0, 12))
# Compactions are rare: after one, a stream begins with a snapshot and resumes nothing.
STEPS = st.lists(st.one_of(WRITES, CUTS, WRITES, CUTS, WRITES, CUTS, st.just("compact")), min_size=1, max_size=40)


def replay(view: dict[Key, network_pb2.Network], changes: list[Change[network_pb2.Network]]) -> None:
    """Applies changes to a handler's own copy and checks each of them against it."""
    for change in changes:
        assert view.get(change.key) == change.old
        if change.new is None:
            assert change.old is not None
            del view[change.key]
        else:
            if change.old is not None:
                assert change.new.metadata.resource_version > change.old.metadata.resource_version
            view[change.key] = change.new


@settings(max_examples=300)
@given(STEPS)
def test_cut_and_compacted_streams_end_in_the_stores_state(steps: list[object]) -> None:
    server, cache = ModelServer(), ObjectCache[network_pb2.Network]()
    view: dict[Key, network_pb2.Network] = {}
    for step in steps:
        if isinstance(step, dict):
            server.write(step)
        elif step == "compact":
            server.compacted = server.revision
        elif isinstance(step, tuple):
            # A stream that breaks after some of its responses.
            for response in server.watch(cache.restart())[: step[1]]:
                replay(view, cache.apply(response))
    for response in server.watch(cache.restart()):
        replay(view, cache.apply(response))
    assert {key.name: obj for key, obj in cache.objects.items()} == server.objects
    assert view == cache.objects
    assert cache.synced
    assert cache.revision == server.revision


def test_a_transaction_that_a_cut_splits_is_completed() -> None:
    cache = ObjectCache[network_pb2.Network]()
    cache.restart()
    cache.apply(Response(mark=mark(SYNCED, 10)))
    assert len(cache.apply(Response(events=[event(ADDED, network("a", 11))]))) == 1
    assert cache.restart() == 10
    repeated = [event(ADDED, network("a", 11)), event(ADDED, network("b", 11))]
    assert [change.key.name for change in cache.apply(Response(events=repeated))] == ["b"]


def test_nothing_is_visible_before_the_snapshot_is_complete() -> None:
    cache = ObjectCache[network_pb2.Network]()
    cache.restart()
    assert cache.apply(Response(events=[event(ADDED, network("a", 3))])) == []
    assert not cache.synced
    assert cache.objects == {}
    changes = cache.apply(Response(mark=mark(SYNCED, 5)))
    assert [(change.old, change.key.name) for change in changes] == [(None, "a")]


def test_a_reset_becomes_the_differences() -> None:
    cache = ObjectCache[network_pb2.Network]()
    cache.restart()
    snapshot = [event(ADDED, network(name, 3)) for name in "abc"]
    cache.apply(Response(events=snapshot, mark=mark(SYNCED, 5)))
    assert cache.apply(Response(mark=mark(RESET, 9))) == []
    assert len(cache.objects) == 3
    answer = [event(ADDED, network("a", 3)), event(ADDED, network("b", 8)), event(ADDED, network("d", 7))]
    changes = cache.apply(Response(events=answer, mark=mark(SYNCED, 9)))
    told = [(change.key.name, change.old is not None, change.new is not None) for change in changes]
    assert told == [("c", True, False), ("d", False, True), ("b", True, True)]


def test_a_store_that_began_anew_is_told_by_uid() -> None:
    old = {Key("default", "a"): network("a", 3, "first")}
    new = {Key("default", "a"): network("a", 3, "second")}
    assert [change.new.metadata.uid for change in differences(old, new) if change.new] == ["second"]
    assert differences(old, dict(old)) == []
