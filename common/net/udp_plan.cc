#include "common/net/udp_plan.h"

#include <cassert>

namespace culvert::net {

bool can_join_run(const DatagramRun& run, const OutDatagram& last, const OutDatagram& next,
                  const RunLimits& limits) {
  assert(run.count > 0);
  return next.path == run.path &&                            // [1] the same peer, the same source
         !next.bytes.empty() &&                              // [2] the kernel makes none of nothing
         next.bytes.size() <= run.segment_size &&            // [3] not longer than the first
         last.bytes.size() == run.segment_size &&            // [4] nothing after a shorter one
         run.count < limits.max_datagrams &&                 // [5]
         run.bytes + next.bytes.size() <= limits.max_bytes;  // [6]
}

size_t plan_runs(std::span<const OutDatagram> batch, const RunLimits& limits,
                 std::span<DatagramRun> runs) {
  size_t count = 0;
  for (size_t i = 0; i < batch.size(); ++i) {
    const OutDatagram& next = batch[i];
    const auto size = static_cast<uint32_t>(next.bytes.size());
    if (count > 0 && can_join_run(runs[count - 1], batch[i - 1], next, limits)) {
      ++runs[count - 1].count;
      runs[count - 1].bytes += size;
      continue;
    }
    if (count == runs.size()) break;
    assert(size <= UINT16_MAX);
    runs[count++] = {.first = static_cast<uint32_t>(i),
                     .count = 1,
                     .bytes = size,
                     .segment_size = static_cast<uint16_t>(size),
                     .path = next.path};
  }
  return count;
}

}  // namespace culvert::net
