#include "ha/sync_port.h"

#include <net/if.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include <atomic>
#include <cstring>
#include <optional>

#include "ironcore/engine.h"

namespace ironcore::ha {
namespace {

constexpr uint16_t kDescriptors = 256, kBurst = 32;
constexpr unsigned kBuffers = 2047, kRounds = 64;

std::optional<uint16_t> find(const std::string& name) {
  uint16_t id;
  RTE_ETH_FOREACH_DEV(id) {
    rte_eth_dev_info info{};
    char device[RTE_ETH_NAME_MAX_LEN], netdev[IF_NAMESIZE];
    if (rte_eth_dev_info_get(id, &info) != 0 || rte_eth_dev_get_name_by_port(id, device) != 0) continue;
    const bool has_netdev = info.if_index != 0 && if_indextoname(info.if_index, netdev);
    if (name == (has_netdev ? netdev : device)) return id;
  }
  return std::nullopt;
}

rte_mempool* create_pool() {
  static std::atomic<unsigned> serial{0};
  const std::string name = "ironcore_sync" + std::to_string(serial++);
  rte_mempool* pool = rte_pktmbuf_pool_create(name.c_str(), kBuffers, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
  if (!pool) throw EngineError(std::string("cannot allocate buffers of the sync port: ") + rte_strerror(rte_errno));
  return pool;
}

void check(const std::string& name, const char* step, int error) {
  if (error != 0) throw EngineError("sync port " + name + ": " + step + ": " + rte_strerror(-error));
}

}  // namespace

SyncPort::SyncPort(const std::string& name, bool close) : close_(close) {
  const auto found = find(name);
  if (!found) throw EngineError("no device with the netdev name " + name + " (sync_tap)");
  id_ = *found;
  pool_ = create_pool();
  try {
    const rte_eth_conf config{};
    check(name, "configure", rte_eth_dev_configure(id_, 1, 1, &config));
    uint16_t rx = kDescriptors, tx = kDescriptors;
    check(name, "descriptors", rte_eth_dev_adjust_nb_rx_tx_desc(id_, &rx, &tx));
    check(name, "rx queue", rte_eth_rx_queue_setup(id_, 0, rx, SOCKET_ID_ANY, nullptr, pool_));
    check(name, "tx queue", rte_eth_tx_queue_setup(id_, 0, tx, SOCKET_ID_ANY, nullptr));
    check(name, "start", rte_eth_dev_start(id_));
  } catch (...) {
    rte_mempool_free(pool_);
    throw;
  }
  rte_eth_promiscuous_enable(id_);  // some devices take every frame anyway and know no such call
}

SyncPort::~SyncPort() {
  rte_eth_dev_stop(id_);
  if (close_) rte_eth_dev_close(id_);
  rte_mempool_free(pool_);
}

size_t SyncPort::receive(const std::function<void(Bytes)>& visit) {
  size_t count = 0;
  for (unsigned round = 0; round < kRounds; ++round) {
    rte_mbuf* frames[kBurst];
    const uint16_t received = rte_eth_rx_burst(id_, 0, frames, kBurst);
    for (uint16_t i = 0; i < received; ++i) {
      if (frames[i]->nb_segs == 1) visit({rte_pktmbuf_mtod(frames[i], const uint8_t*), frames[i]->data_len});
      rte_pktmbuf_free(frames[i]);
    }
    count += received;
    if (received < kBurst) break;
  }
  return count;
}

bool SyncPort::send(Bytes frame) {
  rte_mbuf* buffer = rte_pktmbuf_alloc(pool_);
  if (!buffer) return false;
  char* data = rte_pktmbuf_append(buffer, static_cast<uint16_t>(frame.size()));
  if (data) {
    std::memcpy(data, frame.data(), frame.size());
    if (rte_eth_tx_burst(id_, 0, &buffer, 1) == 1) return true;
  }
  rte_pktmbuf_free(buffer);
  return false;
}

}  // namespace ironcore::ha
