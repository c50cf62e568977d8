// A journal that somebody else has left: whatever it holds, what is pending is valid, and what is
// written afterwards is there at the next start.
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "common/base/file.h"
#include "common/net/undo_journal.h"
#include "tests/fuzz/fuzz.h"

using namespace culvert;
using fuzz::require;

namespace {

const std::string& journal_path() {
  static const std::string path = [] {
    // In memory where that is to be had: the journal syncs each line.
    std::string pattern =
        ::access("/dev/shm", W_OK) == 0 ? "/dev/shm/culvert-XXXXXX" : "/tmp/culvert-XXXXXX";
    require(::mkdtemp(pattern.data()) != nullptr, "there is a folder");
    return pattern + "/undo";
  }();
  return path;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string& path = journal_path();
  require(replace_file(path, as_text(fuzz::input(data, size))).has_value(), "the file is there");
  const net::SystemRequest change = net::ClearResolver{net::ResolverKind::kResolvconf, "culvert0"};
  size_t before = 0;
  {
    auto journal = net::UndoJournal::open(path);
    if (!journal) {
      require(!journal.error().hint.empty(), "what is no journal stays, and somebody is told");
      return 0;
    }
    for (const net::SystemRequest& pending : journal->pending())
      require(net::validate(pending).has_value(), "what is pending is valid");
    before = journal->pending().size();
    require(journal->record(change).has_value(), "and be written");
  }
  auto journal = net::UndoJournal::open(path);
  require(journal && journal->pending().size() == before + 1, "nothing is lost");
  require(journal->pending().front() == change, "the newest comes first");
  return 0;
}
