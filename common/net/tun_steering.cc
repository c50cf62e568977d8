#include "common/net/tun_steering.h"

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <initializer_list>
#include <vector>

namespace culvert::net {
namespace {

constexpr uint32_t kMaxNetworks = 1U << 18;
// "::ffff:0:0/96", under which IPv4 is kept.
constexpr uint8_t kMappedBits = 96;

// The kernel's struct bpf_lpm_trie_key with an address behind it.
struct Key {
  uint32_t bits = 0;
  std::array<std::byte, 16> address{};
};
static_assert(sizeof(Key) == 20);

Key key_of(const Prefix& prefix) {
  Key key;
  const Prefix network = prefix.network();
  const Bytes bytes = network.address.bytes();
  key.bits = prefix.length;
  if (network.address.is_v4()) {
    key.bits += kMappedBits;
    key.address[10] = key.address[11] = std::byte{0xff};
  }
  std::copy(bytes.begin(), bytes.end(), key.address.end() - static_cast<ptrdiff_t>(bytes.size()));
  return key;
}

int bpf(int command, bpf_attr& attributes) {
  const auto result = ::syscall(SYS_bpf, command, &attributes, sizeof attributes);
  return result < 0 ? -errno : static_cast<int>(result);
}

uint64_t address_of(const void* memory) {
  return reinterpret_cast<uintptr_t>(memory);
}

Error refused(int error, const char* what) {
  const bool denied = error == EPERM || error == EACCES;
  return fail_errno(denied ? ErrorCode::kPermission : ErrorCode::kFailure, error, what);
}

// ---- the program --------------------------------------------------------------------------------

constexpr uint8_t kContext = BPF_REG_6;
// Places on the stack: the key, and the packet's first byte.
constexpr int kKeyAt = -24;
constexpr int kAddressAt = kKeyAt + static_cast<int>(offsetof(Key, address));
constexpr int kVersionAt = -32;

constexpr bpf_insn instruction(unsigned code, uint8_t to, uint8_t from, int offset, int value) {
  bpf_insn made{};
  made.code = static_cast<uint8_t>(code);
  made.dst_reg = to & 0xf;
  made.src_reg = from & 0xf;
  made.off = static_cast<int16_t>(offset);
  made.imm = value;
  return made;
}
constexpr bpf_insn set_register(uint8_t to, int value) {
  return instruction(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value);
}
constexpr bpf_insn copy_register(uint8_t to, uint8_t from) {
  return instruction(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0);
}
constexpr bpf_insn add_to_register(uint8_t to, int value) {
  // Some of the kernel's names stand for zero.
  // NOLINTNEXTLINE(misc-redundant-expression)
  return instruction(BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, value);
}
constexpr bpf_insn store_word(int at, uint32_t value) {
  return instruction(BPF_ST | BPF_MEM | BPF_W, BPF_REG_10, 0, at, static_cast<int>(value));
}
constexpr bpf_insn load(unsigned size, uint8_t to, uint8_t from, int offset) {
  return instruction(BPF_LDX | BPF_MEM | size, to, from, offset, 0);
}
constexpr bpf_insn call(bpf_func_id function) {
  return instruction(BPF_JMP | BPF_CALL, 0, 0, 0, function);
}
constexpr bpf_insn kExit = instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);

// A program under construction. Jumps lead forward only: to where land() is called for them.
class Assembler {
 public:
  void add(std::initializer_list<bpf_insn> more) { code_.insert(code_.end(), more); }
  size_t jump_if(unsigned condition, uint8_t left, int right) {
    code_.push_back(instruction(BPF_JMP | condition | BPF_K, left, 0, 0, right));
    return code_.size() - 1;
  }
  size_t jump() { return jump_if(BPF_JA, 0, 0); }
  void land(size_t jump) { code_[jump].off = static_cast<int16_t>(code_.size() - jump - 1); }
  // From the packet to the stack; register 0 is not zero if the packet is too short.
  void copy_from_packet(int offset, int to_stack, int length) {
    add({copy_register(BPF_REG_1, kContext), set_register(BPF_REG_2, offset),
         copy_register(BPF_REG_3, BPF_REG_10), add_to_register(BPF_REG_3, to_stack),
         set_register(BPF_REG_4, length), call(BPF_FUNC_skb_load_bytes)});
  }
  [[nodiscard]] const std::vector<bpf_insn>& code() const { return code_; }

 private:
  std::vector<bpf_insn> code_;
};

// Gives the number that the map has for the packet's destination, else the packet's hash.
std::vector<bpf_insn> program_for(int map) {
  Assembler program;
  program.add({copy_register(kContext, BPF_REG_1)});
  program.copy_from_packet(0, kVersionAt, 1);
  const size_t empty = program.jump_if(BPF_JNE, BPF_REG_0, 0);
  program.add({load(BPF_B, BPF_REG_1, BPF_REG_10, kVersionAt),
               instruction(BPF_ALU64 | BPF_RSH | BPF_K, BPF_REG_1, 0, 0, 4)});
  const size_t v4 = program.jump_if(BPF_JEQ, BPF_REG_1, 4);
  const size_t unknown = program.jump_if(BPF_JNE, BPF_REG_1, 6);
  program.copy_from_packet(24, kAddressAt, 16);
  const size_t v6 = program.jump();
  program.land(v4);
  program.add({store_word(kAddressAt, 0), store_word(kAddressAt + 4, 0),
               store_word(kAddressAt + 8, htonl(0xffff))});
  program.copy_from_packet(16, kAddressAt + 12, 4);
  program.land(v6);
  const size_t cut = program.jump_if(BPF_JNE, BPF_REG_0, 0);
  program.add(
      {store_word(kKeyAt, 128),
       // A number of 64 bits takes two instructions. NOLINTNEXTLINE(misc-redundant-expression)
       instruction(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map),
       instruction(0, 0, 0, 0, 0), copy_register(BPF_REG_2, BPF_REG_10),
       add_to_register(BPF_REG_2, kKeyAt), call(BPF_FUNC_map_lookup_elem)});
  const size_t nobodys = program.jump_if(BPF_JEQ, BPF_REG_0, 0);
  program.add({load(BPF_W, BPF_REG_0, BPF_REG_0, 0), kExit});
  for (const size_t miss : {empty, unknown, cut, nobodys})
    program.land(miss);
  program.add({load(BPF_W, BPF_REG_0, kContext, offsetof(__sk_buff, hash)), kExit});
  return program.code();
}

bool set_steering(Sys& sys, int queue, int program) {
  return sys.ioctl(queue, TUNSETSTEERINGEBPF, &program) >= 0;
}

}  // namespace

Result<TunSteering> TunSteering::attach(Sys& sys, const TunDevice& queue) {
  bpf_attr attributes{};
  attributes.map_type = BPF_MAP_TYPE_LPM_TRIE;
  attributes.key_size = sizeof(Key);
  attributes.value_size = sizeof(uint32_t);
  attributes.max_entries = kMaxNetworks;
  attributes.map_flags = BPF_F_NO_PREALLOC;
  UniqueFd map(bpf(BPF_MAP_CREATE, attributes));
  if (!map.valid()) return refused(-map.release(), "the kernel has no table for steering");

  const auto instructions = program_for(map.get());
  constexpr const char* kLicense = "Apache-2.0";
  attributes = {};
  attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
  attributes.insns = address_of(instructions.data());
  attributes.insn_cnt = static_cast<uint32_t>(instructions.size());
  attributes.license = address_of(kLicense);
  UniqueFd program(bpf(BPF_PROG_LOAD, attributes));
  if (!program.valid()) return refused(-program.release(), "the kernel does not take the program");
  if (!set_steering(sys, queue.fd(), program.get())) {
    return fail(ErrorCode::kFailure, "the TUN device does not take the program");
  }
  return TunSteering(sys, queue.fd(), std::move(map), std::move(program));
}

Status TunSteering::set(const Prefix& prefix, uint32_t queue) {
  const Key key = key_of(prefix);
  bpf_attr attributes{};
  attributes.map_fd = static_cast<uint32_t>(map_.get());
  attributes.key = address_of(&key);
  attributes.value = address_of(&queue);
  const int result = bpf(BPF_MAP_UPDATE_ELEM, attributes);
  if (result < 0) return refused(-result, "the kernel does not take a network to steer");
  return {};
}

void TunSteering::erase(const Prefix& prefix) {
  const Key key = key_of(prefix);
  bpf_attr attributes{};
  attributes.map_fd = static_cast<uint32_t>(map_.get());
  attributes.key = address_of(&key);
  bpf(BPF_MAP_DELETE_ELEM, attributes);
}

void TunSteering::detach() {
  set_steering(*sys_, queue_, -1);
}

}  // namespace culvert::net
