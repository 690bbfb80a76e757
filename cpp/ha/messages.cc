#include "ha/messages.h"

namespace ironcore::ha {
namespace {

Frame begin(MessageType type) {
  Frame frame;
  Writer out(frame);
  out.bytes(kDestinationMac);
  out.bytes(kSourceMac);
  out.big16(kEtherType);
  out.number(static_cast<uint8_t>(type));
  return frame;
}

// IPv4 is a number in host order here, in front of zeros where there is room for IPv6.
void write_ipv4(Writer& out, const IpAddress& address) { out.reversed(Bytes(address.bytes).first(4)); }

IpAddress read_ipv4(Reader& in) { return IpAddress::v4(in.reversed<Ipv4Address>(4)); }

void write(Writer& out, const NatMapping& mapping) {
  out.number(mapping.source.vni);
  if (mapping.source.address.is_v6) {
    out.bytes(mapping.source.address.bytes);
  } else {
    write_ipv4(out, mapping.source.address);
    out.zeros(12);
  }
  out.number(uint8_t{mapping.source.address.is_v6});
  out.number(mapping.source.port);
  write_ipv4(out, mapping.nat_address);
  out.number(mapping.nat_port);
  write_ipv4(out, mapping.destination.address);
  out.number(mapping.destination.port);
  out.number(mapping.destination.protocol);
}

NatMapping read_mapping(Reader& in) {
  NatMapping mapping;
  mapping.source.vni = in.number<uint32_t>();
  const Bytes address = in.take(16);
  mapping.source.address.is_v6 = in.number<uint8_t>() != 0;
  if (!address.empty()) {
    Reader inside(address);
    if (mapping.source.address.is_v6) {
      mapping.source.address.bytes = inside.bytes<Ipv6Address>(16);
    } else {
      mapping.source.address = read_ipv4(inside);
    }
  }
  mapping.source.port = in.number<uint16_t>();
  mapping.nat_address = read_ipv4(in);
  mapping.nat_port = in.number<uint16_t>();
  mapping.destination.address = read_ipv4(in);
  mapping.destination.port = in.number<uint16_t>();
  mapping.destination.protocol = in.number<uint8_t>();
  return mapping;
}

NatCreate read_nat_create(Reader& in) {
  NatCreate message;
  message.mapping = read_mapping(in);
  message.port = in.number<uint16_t>();
  message.icmp_type = in.number<uint16_t>();
  message.ip_checksum = in.number<uint16_t>();
  return message;
}

Hello read_hello(Reader& in) {
  Hello message;
  message.version = in.number<uint8_t>();
  message.role = in.number<uint8_t>() == 0 ? Role::kStandby : Role::kActive;
  message.session = in.number<uint64_t>();
  message.active = in.number<uint64_t>();
  message.stream = in.number<uint32_t>();
  message.next = in.number<uint64_t>();
  return message;
}

Data read_data(Reader& in) {
  Data message;
  message.standby = in.number<uint64_t>();
  message.active = in.number<uint64_t>();
  message.stream = in.number<uint32_t>();
  message.sequence = in.number<uint64_t>();
  message.records = in.take(in.number<uint16_t>());
  return message;
}

}  // namespace

void write(Writer& out, const ServiceSlot& message) {
  out.bytes(message.service);
  out.big16(message.service_port);
  out.number(message.slot);
  out.bytes(message.client);
  out.big16(message.client_port);
  out.number(message.vf_port);
  out.number(message.protocol);
}

ServiceSlot read_service_slot(Reader& in) {
  ServiceSlot message;
  message.service = in.bytes<Ipv4Address>(4);
  message.service_port = in.big16();
  message.slot = in.number<uint16_t>();
  message.client = in.bytes<Ipv4Address>(4);
  message.client_port = in.big16();
  message.vf_port = in.number<uint16_t>();
  message.protocol = in.number<uint8_t>();
  return message;
}

void write(Writer& out, const PortMac& message) {
  out.number(message.port);
  out.bytes(message.mac);
}

PortMac read_port_mac(Reader& in) {
  PortMac message;
  message.port = in.number<uint16_t>();
  message.mac = in.bytes<MacAddress>(6);
  return message;
}

const char* name_of(size_t index) {
  constexpr const char* kNames[kMessageTypes] = {"nat_create",   "nat_delete", "service_slot", "port_mac",
                                                 "dump_request", "hello",      "data"};
  return kNames[index];
}

std::optional<Message> decode(Bytes frame) {
  Reader in(frame);
  in.take(12);
  if (in.big16() != kEtherType || !in.ok()) return std::nullopt;
  const auto type = static_cast<MessageType>(in.number<uint8_t>());
  std::optional<Message> message;
  switch (type) {
    case MessageType::kNatCreate:
      message = read_nat_create(in);
      break;
    case MessageType::kNatDelete:
      message = NatDelete{read_mapping(in)};
      break;
    case MessageType::kServiceSlot:
      message = read_service_slot(in);
      break;
    case MessageType::kPortMac:
      message = read_port_mac(in);
      break;
    case MessageType::kDumpRequest:
      message = DumpRequest{};
      break;
    case MessageType::kHello:
      message = read_hello(in);
      break;
    case MessageType::kData:
      message = read_data(in);
      break;
  }
  if (!in.ok()) return Unusable{};
  if (!message) return Unusable{true};
  return message;
}

Frame encode(const NatCreate& message) {
  Frame frame = begin(MessageType::kNatCreate);
  Writer out(frame);
  write(out, message.mapping);
  out.number(message.port);
  out.number(message.icmp_type);
  out.number(message.ip_checksum);
  return frame;
}

Frame encode(const NatDelete& message) {
  Frame frame = begin(MessageType::kNatDelete);
  Writer out(frame);
  write(out, message.mapping);
  return frame;
}

Frame encode(const ServiceSlot& message) {
  Frame frame = begin(MessageType::kServiceSlot);
  Writer out(frame);
  write(out, message);
  return frame;
}

Frame encode(const PortMac& message) {
  Frame frame = begin(MessageType::kPortMac);
  Writer out(frame);
  write(out, message);
  return frame;
}

Frame encode(const DumpRequest&) { return begin(MessageType::kDumpRequest); }

Frame encode(const Hello& message) {
  Frame frame = begin(MessageType::kHello);
  Writer out(frame);
  out.number(message.version);
  out.number(static_cast<uint8_t>(message.role));
  out.number(message.session);
  out.number(message.active);
  out.number(message.stream);
  out.number(message.next);
  return frame;
}

Frame encode(const Data& message) {
  Frame frame = begin(MessageType::kData);
  Writer out(frame);
  out.number(message.standby);
  out.number(message.active);
  out.number(message.stream);
  out.number(message.sequence);
  out.number(static_cast<uint16_t>(message.records.size()));
  out.bytes(message.records);
  return frame;
}

}  // namespace ironcore::ha
