// The openssl program as an independent oracle, run in a temporary folder.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace culvert::tls {

class OpenSsl {
 public:
  OpenSsl() {
    std::string pattern = std::filesystem::temp_directory_path() / "culvert-openssl-XXXXXX";
    EXPECT_NE(nullptr, ::mkdtemp(pattern.data()));
    folder_ = pattern;
  }
  OpenSsl(const OpenSsl&) = delete;
  OpenSsl& operator=(const OpenSsl&) = delete;
  ~OpenSsl() { std::filesystem::remove_all(folder_); }

  static bool available() { return std::system("openssl version >/dev/null 2>&1") == 0; }

  // The exit status; what it printed is in output().
  int run(const std::string& arguments) {
    const std::string command =
        "cd '" + folder_.string() + "' && openssl " + arguments + " >output 2>&1";
    const int status = std::system(command.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  [[nodiscard]] std::string output() const { return read("output"); }
  [[nodiscard]] std::string read(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(folder_ / name).rdbuf();
    return text.str();
  }
  void write(const std::string& name, std::string_view text) const {
    std::ofstream(folder_ / name) << text;
  }
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }

 private:
  std::filesystem::path folder_;
};

}  // namespace culvert::tls
