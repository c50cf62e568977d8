// Micro-benchmarks of the packet path, without kernel and network. Each part stands beside what it
// cannot be faster than: the bare cipher for records, a copy of the same bytes for what touches
// each byte, a load for a lookup. Time is per record, (super)packet or lookup.
//
//   scripts/bench --micro       or: cmake --build --preset release --target micro_bench
#include <benchmark/benchmark.h>

#include <array>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "common/net/checksum.h"
#include "common/net/gro_merge.h"
#include "common/net/gso_split.h"
#include "common/net/packet_batch.h"
#include "common/wire/cstp.h"
#include "server/route_table.h"
#include "tests/unit/net/offload_packets.h"
#include "tests/unit/tls/dtls_pair.h"
#include "tests/unit/tls/pki.h"
#include "tests/unit/tls/tls_pair.h"
#ifdef CULVERT_HAVE_IPSEC_MB
#include "tests/bench/limit_probe.h"
#endif

namespace culvert::bench {
namespace {

using benchmark::State;

constexpr size_t kPacketSize = 1400;
constexpr size_t kLargeRecord = 16000;
constexpr size_t kSuperpacketPackets = 44;
constexpr size_t kTcpHeaders = 52;  // IPv4, TCP, timestamps
constexpr int kBatch = 256;         // records that are made before they are opened

size_t size_argument(const State& state) {
  return static_cast<size_t>(state.range(0));
}

std::vector<std::byte> some_bytes(size_t size) {
  return net::testing::pattern(size, 1);
}

void count_bytes(State& state, size_t bytes) {
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes));
}

// --- The references.

void copy(State& state) {
  const auto from = some_bytes(size_argument(state));
  std::vector<std::byte> to(from.size());
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), from.size());
    benchmark::DoNotOptimize(to.data());
    benchmark::ClobberMemory();
  }
  count_bytes(state, from.size());
}
BENCHMARK(copy)->Arg(8)->Arg(kPacketSize)->Arg(kLargeRecord)->Arg(kSuperpacketPackets* kPacketSize);

#ifdef CULVERT_HAVE_IPSEC_MB
void ipsec_mb_seal(State& state) {
  Aead aead;
  const auto plain = some_bytes(size_argument(state));
  const auto header = some_bytes(13);
  std::vector<std::byte> sealed(plain.size() + Aead::kTagSize);
  uint64_t number = 0;
  for (auto _ : state) {
    aead.seal(plain, header, number++, sealed.data());
    benchmark::ClobberMemory();
  }
  count_bytes(state, plain.size());
}
BENCHMARK(ipsec_mb_seal)->Arg(64)->Arg(kPacketSize)->Arg(kLargeRecord);

void ipsec_mb_open(State& state) {
  Aead aead;
  auto plain = some_bytes(size_argument(state));
  const auto header = some_bytes(13);
  std::vector<std::byte> sealed(plain.size() + Aead::kTagSize);
  aead.seal(plain, header, 1, sealed.data());
  for (auto _ : state) {
    if (!aead.open(sealed, header, 1, plain.data())) state.SkipWithError("it does not open");
  }
  count_bytes(state, plain.size());
}
BENCHMARK(ipsec_mb_open)->Arg(64)->Arg(kPacketSize)->Arg(kLargeRecord);
#endif

// --- Records.

void dtls_seal(State& state) {
  tls::DtlsPairOptions options;
  options.mtu = 0;
  tls::DtlsPair pair(std::move(options.with_cids()));
  pair.shake_hands();
  const auto plain = some_bytes(size_argument(state));
  std::vector<std::byte> record(plain.size() + tls::DtlsSession::kMaxExpansion);
  for (auto _ : state) {
    if (pair.client->seal(plain, record) == 0) state.SkipWithError("it does not seal");
  }
  count_bytes(state, plain.size());
}
BENCHMARK(dtls_seal)->Arg(64)->Arg(kPacketSize);

void dtls_open(State& state) {
  tls::DtlsPairOptions options;
  options.mtu = 0;
  tls::DtlsPair pair(std::move(options.with_cids()));
  pair.shake_hands();
  const auto plain = some_bytes(size_argument(state));
  std::vector<tls::Datagram> records(kBatch);
  std::vector<std::byte> out(plain.size() + tls::DtlsSession::kMaxExpansion);
  while (state.KeepRunningBatch(kBatch)) {
    state.PauseTiming();  // each record opens only once
    for (auto& record : records) {
      record.resize(plain.size() + tls::DtlsSession::kMaxExpansion);
      record.resize(pair.client->seal(plain, record));
    }
    state.ResumeTiming();
    for (auto& record : records) {
      if (pair.server->open(record, out).what != tls::Opened::kOk)
        state.SkipWithError("it does not open");
    }
  }
  count_bytes(state, plain.size());
}
BENCHMARK(dtls_open)->Arg(64)->Arg(kPacketSize);

// Client and server with certificates, after their handshake.
tls::Pair tls_pair() {
  const tls::Identity ca = tls::make_ca("CA");
  const tls::Identity own[] = {tls::make_client(ca, "alice"),
                               tls::make_server(ca, {"vpn.example.com"})};
  std::array<std::shared_ptr<const tls::TlsConfig>, 2> configs;
  for (size_t i = 0; i < configs.size(); ++i) {
    tls::TlsOptions options;
    options.role = i == 0 ? tls::Role::kClient : tls::Role::kServer;
    options.certificate_chain_pem = own[i].certificate;
    options.private_key_pem = own[i].key.clone();
    options.trusted_ca_pem = ca.certificate;
    configs[i] = tls::TlsConfig::build(options).value();
  }
  tls::Pair pair(configs[0], configs[1], "vpn.example.com");
  pair.shake_hands();
  return pair;
}

void tls_seal(State& state) {
  tls::Pair pair = tls_pair();
  const auto plain = some_bytes(size_argument(state));
  for (auto _ : state) {
    if (pair.client.session->write(plain) != tls::Io::kOk) state.SkipWithError("it does not seal");
    pair.client.session->consume_output(pair.client.session->pending_output().size());
  }
  count_bytes(state, plain.size());
}
BENCHMARK(tls_seal)->Arg(kPacketSize)->Arg(kLargeRecord);

void tls_open(State& state) {
  tls::Pair pair = tls_pair();
  const auto plain = some_bytes(size_argument(state));
  std::vector<std::byte> out(tls::TlsSession::kMaxRecord);
  while (pair.server.session->read(out).io == tls::Io::kOk) {
  }
  while (state.KeepRunningBatch(kBatch)) {
    state.PauseTiming();
    for (int i = 0; i < kBatch; ++i)
      pair.client.session->write(plain);
    pair.server.take_from(pair.client);
    state.ResumeTiming();
    for (int i = 0; i < kBatch; ++i) {
      if (pair.server.session->read(out).io != tls::Io::kOk)
        state.SkipWithError("it does not open");
    }
    if (pair.server.session->read(out).io != tls::Io::kWantRead) state.SkipWithError("too many");
  }
  count_bytes(state, plain.size());
}
BENCHMARK(tls_open)->Arg(kPacketSize)->Arg(kLargeRecord);

// --- Superpackets.

net::testing::Packet tcp_packet(uint32_t sequence, size_t payload) {
  net::testing::TcpFields fields;
  fields.sequence = sequence;
  auto packet =
      net::testing::bytes_of({0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2});
  net::testing::append(packet, net::testing::tcp(fields, some_bytes(payload)));
  return packet;
}

void gso_split(State& state) {
  constexpr size_t kPayload = kPacketSize - kTcpHeaders;
  auto packet = net::testing::seal_partially(tcp_packet(1000, kPayload * kSuperpacketPackets));
  net::VnetHeader header{.flags = net::kVnetNeedsChecksum,
                         .type = net::GsoType::kTcpV4,
                         .header_length = kTcpHeaders,
                         .gso_size = kPayload,
                         .checksum_start = 20,
                         .checksum_offset = 16};
  const auto headers = packet;
  for (auto _ : state) {
    // Splitting writes over the headers, and over payload, which may be anything.
    std::memcpy(packet.data(), headers.data(), kTcpHeaders);
    if (net::check_vnet(header, packet, net::kKernelBounds) != net::VnetVerdict::kOk)
      state.SkipWithError("not a superpacket");
    net::GsoSplitter splitter(header, packet, kPacketSize);
    size_t count = 0;
    while (!splitter.next().empty())
      ++count;
    if (count != kSuperpacketPackets) state.SkipWithError("not split as expected");
  }
  count_bytes(state, packet.size());
}
BENCHMARK(gso_split);

void gro_merge(State& state) {
  constexpr size_t kPayload = kPacketSize - kTcpHeaders;
  net::PacketBatch batch(kSuperpacketPackets, kPacketSize, 64);
  for (size_t i = 0; i < kSuperpacketPackets; ++i) {
    auto packet = tcp_packet(static_cast<uint32_t>(1000 + i * kPayload), kPayload);
    packet = net::testing::seal(std::move(packet));
    std::memcpy(batch.free_space().data(), packet.data(), packet.size());
    batch.commit(packet.size());
  }
  const std::vector<std::byte> first(batch[0].begin(), batch[0].end());
  net::GroMerger merger(kSuperpacketPackets, {});
  for (auto _ : state) {
    std::memcpy(batch[0].data(), first.data(), kTcpHeaders);  // merging writes over them
    if (merger.merge(batch.packets()).size() != 1) state.SkipWithError("not merged as expected");
  }
  count_bytes(state, kPacketSize * kSuperpacketPackets);
}
BENCHMARK(gro_merge);

void checksum(State& state) {
  const auto bytes = some_bytes(size_argument(state));
  for (auto _ : state)
    benchmark::DoNotOptimize(net::internet_checksum(bytes));
  count_bytes(state, bytes.size());
}
BENCHMARK(checksum)->Arg(64)->Arg(kPacketSize)->Arg(kSuperpacketPackets* kPacketSize);

// --- Finding and framing.

std::array<std::byte, 4> client_address(uint32_t number) {
  std::array<std::byte, 4> address;
  store_be32(address, 0x0a000000 + number);
  return address;
}

// In an order that no prefetcher guesses.
std::vector<uint32_t> shuffled(uint32_t count) {
  std::vector<uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::minstd_rand(7));
  return order;
}

// The argument: clients. Each packet goes to another one.
void route_lookup(State& state) {
  const auto clients = static_cast<uint32_t>(state.range(0));
  server::RouteTable<uint32_t> table;
  for (uint32_t i = 0; i < clients; ++i)
    table.insert({IpAddress::from_bytes(client_address(i)), 32}, i + 1);
  const auto order = shuffled(clients);
  size_t at = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(table.find(client_address(order[at])));
    at = at + 1 < order.size() ? at + 1 : 0;
  }
}
BENCHMARK(route_lookup)->Arg(10)->Arg(1000)->Arg(100000);

// The reference: one load from as much memory, in the same order.
void random_load(State& state) {
  const auto order = shuffled(static_cast<uint32_t>(state.range(0)));
  using Slot = std::array<uint64_t, 4>;  // as large as a slot of the table
  std::vector<Slot> slots(order.size() * 2);
  size_t at = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(slots[order[at] * size_t{2}][0]);
    at = at + 1 < order.size() ? at + 1 : 0;
  }
}
BENCHMARK(random_load)->Arg(10)->Arg(1000)->Arg(100000);

void cstp_write(State& state) {
  auto frame = some_bytes(wire::kCstpHeaderSize + kPacketSize);
  for (auto _ : state) {
    wire::write_cstp_header(frame, wire::CstpType::kData, kPacketSize);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(cstp_write);

void cstp_parse(State& state) {
  auto frame = some_bytes(wire::kCstpHeaderSize + kPacketSize);
  wire::write_cstp_header(frame, wire::CstpType::kData, kPacketSize);
  for (auto _ : state) {
    const wire::CstpParse parsed = wire::parse_cstp(frame);
    if (parsed.verdict != wire::CstpParse::Verdict::kFrame) state.SkipWithError("not a frame");
    benchmark::DoNotOptimize(parsed.payload.data());
  }
}
BENCHMARK(cstp_parse);

}  // namespace
}  // namespace culvert::bench

BENCHMARK_MAIN();
