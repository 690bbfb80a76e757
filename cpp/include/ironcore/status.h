// Outcome of a control call. Numbers and names are part of the dpservice wire contract.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

namespace ironcore {

#define IRONCORE_STATUS_LIST(X) \
  X(BAD_REQUEST, 101)           \
  X(NOT_FOUND, 201)             \
  X(ALREADY_EXISTS, 202)        \
  X(WRONG_TYPE, 203)            \
  X(BAD_IPVER, 204)             \
  X(NO_VM, 205)                 \
  X(NO_VNI, 206)                \
  X(ITERATOR, 207)              \
  X(OUT_OF_MEMORY, 208)         \
  X(LIMIT_REACHED, 209)         \
  X(ALREADY_ACTIVE, 210)        \
  X(NOT_ACTIVE, 211)            \
  X(ROLLBACK, 212)              \
  X(RTE_RULE_ADD, 213)          \
  X(RTE_RULE_DEL, 214)          \
  X(ROUTE_EXISTS, 301)          \
  X(ROUTE_NOT_FOUND, 302)       \
  X(ROUTE_INSERT, 303)          \
  X(ROUTE_BAD_PORT, 304)        \
  X(ROUTE_RESET, 305)           \
  X(DNAT_NO_DATA, 321)          \
  X(DNAT_CREATE, 322)           \
  X(DNAT_EXISTS, 323)           \
  X(SNAT_NO_DATA, 341)          \
  X(SNAT_CREATE, 342)           \
  X(SNAT_EXISTS, 343)           \
  X(VNI_INIT4, 361)             \
  X(VNI_INIT6, 362)             \
  X(VNI_FREE4, 363)             \
  X(VNI_FREE6, 364)             \
  X(PORT_START, 381)            \
  X(PORT_STOP, 382)             \
  X(PORT_METER, 383)            \
  X(VNF_INSERT, 401)            \
  X(VM_HANDLE, 402)             \
  X(VNF_DELETE, 403)            \
  X(NO_BACKIP, 421)             \
  X(NO_LB, 422)                 \
  X(BACKIP_ADD, 423)            \
  X(BACKIP_DEL, 424)            \
  X(NO_DROP_SUPPORT, 441)

enum class Status : uint32_t {
  OK = 0,
#define IRONCORE_STATUS_ENUM(name, code) name = code,
  IRONCORE_STATUS_LIST(IRONCORE_STATUS_ENUM)
#undef IRONCORE_STATUS_ENUM
};

// "Success" for OK, else the name as listed above.
std::string_view status_name(Status status);

// A value, meaningful only if `status` is OK.
template <typename T>
struct Result {
  Status status = Status::OK;
  T value{};

  Result(Status s) : status(s) {}
  Result(T v) : value(std::move(v)) {}
  bool ok() const { return status == Status::OK; }
};

}  // namespace ironcore
