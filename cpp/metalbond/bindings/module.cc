// metalbond._core: wire format, table and distribution for Python.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>

#include "metalbond/bindings/values.h"
#include "metalbond/distributor.h"
#include "metalbond/outbox.h"
#include "metalbond/wire.h"

namespace py = pybind11;

namespace metalbond {
namespace {

// (frames as (type, payload), bytes used, what is wrong, its value). With `merge` a run of updates is one entry, whose
// bytes are whole frames.
py::tuple split(const py::bytes& stream, bool merge) {
  using Kind = FrameHead::Kind;
  const std::string_view all = view(stream);
  py::list frames;
  size_t at = 0;
  FrameHead head{};
  while (true) {
    head = read_frame(all.substr(at));
    if (head.kind != Kind::kFrame) break;
    const size_t start = at;
    at += head.size;
    if (!merge || head.type != kUpdate) {
      frames.append(py::make_tuple(head.type, py::bytes(all.data() + start + kHeaderBytes, head.size - kHeaderBytes)));
      continue;
    }
    FrameHead next = read_frame(all.substr(at));
    while (next.kind == Kind::kFrame && next.type == kUpdate) {
      at += next.size;
      next = read_frame(all.substr(at));
    }
    frames.append(py::make_tuple(kUpdate, py::bytes(all.data() + start, at - start)));
  }
  const char* wrong = head.kind == Kind::kBadVersion    ? "version"
                      : head.kind == Kind::kUnknownType ? "type"
                      : head.kind == Kind::kTooLong     ? "length"
                                                        : "";
  return py::make_tuple(frames, at, wrong, head.offender);
}

py::bytes encode(bool add, py::handle route, const py::bytes& origin) {
  std::string frame;
  append_update(frame, add, encode_key(to_route(route)), view(origin));
  return frame;
}

py::list refusals(const std::vector<Refusal>& refused) {
  py::list list;
  for (const Refusal& refusal : refused) {
    // What exceeds a limit is a key, what is invalid has a text.
    py::object what = refusal.reason == "invalid" ? py::object(py::str(refusal.what)) : py::str(from_key(refusal.what));
    list.append(py::make_tuple(refusal.reason, refusal.count, what));
  }
  return list;
}

// (updates, refusals, what is broken or None) of whole frames; each update is (add, route), with `mesh` also its
// origin.
py::tuple decode_frames(const py::bytes& frames, bool mesh) {
  std::string_view rest = view(frames);
  py::list updates;
  std::vector<Refusal> refused;
  py::object broken = py::none();
  while (!rest.empty()) {
    const FrameHead head = read_frame(rest);
    const Update update = decode_update(rest.substr(kHeaderBytes, head.size - kHeaderBytes));
    rest.remove_prefix(head.size);
    if (update.verdict == Verdict::kBroken) {
      broken = py::str(update.fault);
      break;
    }
    if (update.verdict == Verdict::kInvalid) {
      if (refused.empty()) refused.push_back({"invalid", update.fault, 0});
      ++refused.front().count;
    } else if (!mesh) {
      updates.append(py::make_tuple(update.add, from_route(update.route)));
    } else if (update.origin.empty() || update.origin.size() > kMaxOrigin) {
      broken = py::str("update.origin: " + std::to_string(update.origin.size()) + " bytes, must be 1 to 128");
      break;
    } else {
      updates.append(
          py::make_tuple(update.add, from_route(update.route), py::bytes(update.origin.data(), update.origin.size())));
    }
  }
  return py::make_tuple(updates, refusals(refused), broken);
}

struct KeyStore {
  std::unordered_map<std::string, uint8_t> bits;
  uint8_t* find(const std::string& key) {
    const auto found = bits.find(key);
    return found == bits.end() ? nullptr : &found->second;
  }
  uint8_t& make(const std::string& key) { return bits[key]; }
  void settle(const std::string& key) { bits.erase(key); }
};

// What a client has announced on one connection and must still announce.
class RouteOutbox {
 public:
  bool want(py::handle route, bool present) { return outbox_.want(to_key(route), present); }
  void mark() { outbox_.mark(); }
  size_t waiting() const { return outbox_.waiting(); }
  size_t marks() const { return outbox_.marks(); }

  // At most `limit` frames; None stands for a mark.
  py::list take(size_t limit) {
    py::list taken;
    outbox_.take([&] { return taken.size() < limit; },
                 [&](bool add, const std::string& key) {
                   std::string frame;
                   append_update(frame, add, key);
                   taken.append(py::bytes(frame));
                 },
                 [&] { taken.append(py::none()); });
    return taken;
  }

  void forget(uint32_t vni) {
    std::vector<std::string> gone;
    for (const auto& [key, bits] : outbox_.store.bits) {
      if (decode_key(key).vni != vni) continue;
      outbox_.forgotten(bits);
      gone.push_back(key);
    }
    for (const std::string& key : gone) outbox_.store.settle(key);
  }

  py::list sent() const {
    py::list routes;
    for (const auto& [key, bits] : outbox_.store.bits)
      if ((bits & kSent) != 0) routes.append(from_key(key));
    return routes;
  }

 private:
  Outbox<std::string, KeyStore> outbox_{KeyStore{}};
};

std::vector<Network> to_networks(const py::iterable& networks) {
  std::vector<Network> list;
  for (const py::handle network : networks) list.push_back(to_network(network));
  return list;
}

Filter make_filter(std::vector<std::pair<uint32_t, uint32_t>> vnis, const std::optional<py::iterable>& prefixes,
                   const std::optional<py::iterable>& next_hops, std::optional<size_t> max_routes) {
  Filter filter{true, std::move(vnis), std::nullopt, std::nullopt, max_routes.value_or(SIZE_MAX)};
  if (prefixes) filter.prefixes = to_networks(*prefixes);
  if (next_hops) filter.next_hops = to_networks(*next_hops);
  return filter;
}

py::tuple receive(Distributor& self, Source source, const py::bytes& frames, size_t of_peer, size_t of_all,
                  const Filter* filter) {
  const Received received = self.receive(source, view(frames), {of_peer, of_all, filter});
  py::object broken = received.broken ? py::object(py::str(*received.broken)) : py::none();
  return py::make_tuple(received.updates, refusals(received.refusals), broken);
}

py::tuple take(Distributor& self, Source peer, size_t limit, bool separate) {
  const Taken taken = self.take(peer, limit, separate);
  py::list frames;
  size_t start = 0;
  for (const size_t end : taken.ends) {
    frames.append(py::bytes(taken.frames.data() + start, end - start));
    start = end;
  }
  if (!separate && !taken.frames.empty()) frames.append(py::bytes(taken.frames));
  return py::make_tuple(frames, taken.updates, self.waiting(peer) + self.marks(peer) != 0);
}

py::tuple sources_of(const Record& record) {
  py::tuple sources(record.count);
  for (uint32_t n = 0; n < record.count; ++n) sources[n] = record.sources()[n].source;
  return sources;
}

const Record* find(const Distributor& self, py::handle route) {
  const Route value = to_route(route);
  const auto found = self.table.vnis().find(value.vni);
  if (found == self.table.vnis().end()) return nullptr;
  const Slot slot = found->second.find(encode_key(value));
  return slot == SlotIndex::kNone ? nullptr : &found->second.at(slot);
}

// Calls `each(record)` for the routes of a VNI.
template <typename Each>
void for_each_route(const Distributor& self, uint32_t vni, Each&& each) {
  const auto found = self.table.vnis().find(vni);
  if (found == self.table.vnis().end()) return;
  const VniTable& routes = found->second;
  for (Slot slot = 0; slot < routes.slots(); ++slot)
    if (routes.used(slot) && routes.at(slot).count != 0) each(routes.at(slot));
}

// Routes of at most `limit` slots from `slot` on, and the next slot, None after the last. A route keeps its slot.
py::tuple scan(const Distributor& self, uint32_t vni, Slot slot, Slot limit) {
  py::list list;
  const auto found = self.table.vnis().find(vni);
  if (found == self.table.vnis().end()) return py::make_tuple(list, py::none());
  const VniTable& routes = found->second;
  const size_t end = std::min<size_t>(routes.slots(), size_t{slot} + limit);
  for (; slot < end; ++slot) {
    if (!routes.used(slot) || routes.at(slot).count == 0) continue;
    const Record& record = routes.at(slot);
    list.append(py::make_tuple(from_key(record.key()), sources_of(record)));
  }
  return py::make_tuple(list, end < routes.slots() ? py::object(py::int_(end)) : py::none());
}

py::list routes(const Distributor& self, uint32_t vni) {
  py::list list;
  for_each_route(self, vni, [&](const Record& record) {
    list.append(py::make_tuple(from_key(record.key()), sources_of(record)));
  });
  return list;
}

py::dict hops(const Distributor& self, uint32_t vni, py::handle destination) {
  py::dict result;
  const auto found = self.table.vnis().find(vni);
  if (found == self.table.vnis().end()) return result;
  const VniTable& table = found->second;
  for (Slot slot = table.find_destination(to_destination_key(vni, destination)); slot != SlotIndex::kNone;
       slot = table.at(slot).next)
    result[from_hop(decode_key(table.at(slot).key()))] = sources_of(table.at(slot));
  return result;
}

py::dict destination_counts(const Distributor& self) {
  py::dict counts;
  for (const auto& [vni, routes] : self.table.vnis())
    if (routes.routes != 0) counts[py::int_(vni)] = routes.destinations();
  return counts;
}

py::list of_source(const Distributor& self, Source source) {
  py::list list;
  for (const auto& [vni, slot] : self.table.of_source(source))
    list.append(from_key(self.table.vnis().at(vni).at(slot).key()));
  return list;
}

py::set take_changes(Distributor& self) {
  py::set changes;
  for (const std::string& key : self.take_changes()) changes.add(from_key(key));
  return changes;
}

void bind_distributor(py::module_& m) {
  py::class_<Distributor>(m, "Distributor")
      .def(py::init([](const py::bytes& name) { return std::make_unique<Distributor>(std::string(view(name))); }),
           py::arg("name") = py::bytes())
      .def(
          "connect",
          [](Distributor& self, Source peer, const py::bytes& identity, bool original) {
            self.connect(peer, view(identity), original);
          },
          py::arg("peer"), py::arg("identity") = py::bytes(), py::kw_only(), py::arg("original") = false)
      .def("mirror", &Distributor::mirror)
      .def("adopt", [](Distributor& self, Source source, const py::bytes& origin) { self.adopt(source, view(origin)); })
      .def("disconnect", &Distributor::disconnect)
      .def("release", &Distributor::release, py::arg("source"), py::arg("limit") = SIZE_MAX)
      .def("subscribe", &Distributor::subscribe)
      .def("unsubscribe", &Distributor::unsubscribe)
      .def("update", [](Distributor& self, Source source, bool add,
                        py::handle route) { return self.update(source, add, to_route(route).vni, to_key(route)); })
      .def("receive", &receive)
      .def("take", &take)
      .def("mark", &Distributor::mark)
      .def("marks", &Distributor::marks)
      .def("waiting", &Distributor::waiting)
      .def("take_touched", &Distributor::take_touched)
      .def("connections",
           [](const Distributor& self, const py::bytes& identity) { return self.connections(view(identity)); })
      .def("subscriptions", &Distributor::subscriptions)
      .def("record_changes", &Distributor::record)
      .def_property_readonly("recording", &Distributor::recording)
      .def("take_changes", &take_changes)
      .def("__len__", [](const Distributor& self) { return self.table.size(); })
      .def("__contains__",
           [](const Distributor& self, py::handle route) {
             const Record* record = find(self, route);
             return record != nullptr && record->count != 0;
           })
      .def("sources",
           [](const Distributor& self, py::handle route) {
             const Record* record = find(self, route);
             return record ? sources_of(*record) : py::tuple();
           })
      .def("announces",
           [](const Distributor& self, Source source, py::handle route) {
             const Record* record = find(self, route);
             return record != nullptr && find_source(*record, source) != nullptr;
           })
      .def("count_of", [](const Distributor& self, Source source) { return self.table.count_of(source); })
      .def("of_source", &of_source)
      .def("hops", &hops)
      .def("scan", &scan)
      .def("routes", &routes)
      .def("destination_counts", &destination_counts);
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.def("split", &split);
  m.def("encode_update", &encode, py::arg("add"), py::arg("route"), py::arg("origin") = py::bytes());
  m.def("decode_frames", &decode_frames);
  py::class_<RouteOutbox>(m, "RouteOutbox")
      .def(py::init<>())
      .def("want", &RouteOutbox::want)
      .def("mark", &RouteOutbox::mark)
      .def("__len__", &RouteOutbox::waiting)
      .def_property_readonly("marks", &RouteOutbox::marks)
      .def("take", &RouteOutbox::take)
      .def("forget", &RouteOutbox::forget)
      .def("sent", &RouteOutbox::sent);
  m.def("inside", [](const py::iterable& networks, const py::bytes& address, uint8_t bits) {
    return inside(to_networks(networks), to_address(address), bits);
  });
  py::class_<Filter>(m, "Filter")
      .def(py::init<>())
      .def(py::init(&make_filter))
      .def("refusal", [](const Filter& self, py::handle route) {
        const char* reason = self.refusal(to_route(route));
        return std::string(reason ? reason : "");
      });
  bind_distributor(m);
}

}  // namespace metalbond
