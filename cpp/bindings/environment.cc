// What the DPDK environment of this process tells about itself. Meaningful once an engine exists.
#include <rte_eal.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_version.h>

#include <vector>

#include "bindings/bindings.h"
#include "bindings/casters.h"

namespace py = pybind11;

namespace ironcore {
namespace {

struct Heap {
  int socket = 0;
  rte_malloc_socket_stats stats{};
};

std::vector<Heap> heaps() {
  std::vector<Heap> all;
  for (unsigned i = 0; i < rte_socket_count(); ++i) {
    Heap heap;
    heap.socket = rte_socket_id_by_idx(i);
    if (heap.socket >= 0 && rte_malloc_get_socket_stats(heap.socket, &heap.stats) == 0) all.push_back(heap);
  }
  return all;
}

}  // namespace

void bind_environment(py::module_& m) {
  py::class_<Heap>(m, "Heap")
      .def_readonly("socket", &Heap::socket)
      .def_property_readonly("total_bytes", [](const Heap& h) { return h.stats.heap_totalsz_bytes; })
      .def_property_readonly("free_bytes", [](const Heap& h) { return h.stats.heap_freesz_bytes; })
      .def_property_readonly("allocated_bytes", [](const Heap& h) { return h.stats.heap_allocsz_bytes; })
      .def_property_readonly("greatest_free_bytes", [](const Heap& h) { return h.stats.greatest_free_size; })
      .def_property_readonly("allocated_count", [](const Heap& h) { return h.stats.alloc_count; })
      .def_property_readonly("free_count", [](const Heap& h) { return h.stats.free_count; });

  const py::call_guard<py::gil_scoped_release> unlocked;
  m.def("heaps", &heaps, "The EAL's heaps, by NUMA node.", unlocked);
  m.def("runtime_directory", &rte_eal_get_runtime_dir, "Where the EAL of this file prefix keeps its files.");
  m.def("dpdk_version", &rte_version, "As DPDK names itself.");
}

}  // namespace ironcore
