// Runs a fuzz target over files and folders of inputs, without a fuzzing compiler: each input
// whole, and cut after each of its first bytes, because truncation is what parsers get wrong most.
// A crash or a violated property ends the program; the file in hand was named before.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz.h"

namespace {

namespace fs = std::filesystem;
constexpr size_t kMaxCuts = 512;

std::vector<fs::path> inputs_of(const fs::path& path) {
  std::vector<fs::path> files;
  if (!fs::is_directory(path)) return {path};
  for (const auto& entry : fs::recursive_directory_iterator(path))
    if (entry.is_regular_file()) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

// A block of exactly `size` bytes, so that a sanitizer sees the first byte that is read beyond.
void run(const std::string& content, size_t size) {
  const auto block = std::make_unique<uint8_t[]>(size);
  std::copy_n(content.begin(), size, block.get());
  LLVMFuzzerTestOneInput(block.get(), size);
}

void run_file(const fs::path& file) {
  std::fprintf(stderr, "%s\n", file.c_str());
  std::ifstream stream(file, std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(stream), {}};
  run(content, content.size());
  for (size_t size = 0; size < std::min(content.size(), kMaxCuts); ++size)
    run(content, size);
}

}  // namespace

int main(int argc, char** argv) {
  size_t count = 0;
  for (int i = 1; i < argc; ++i) {
    for (const fs::path& file : inputs_of(argv[i])) {
      run_file(file);
      ++count;
    }
  }
  std::fprintf(stderr, "%zu inputs\n", count);
  return count > 0 ? 0 : 1;  // a corpus that went missing must not look like success
}
