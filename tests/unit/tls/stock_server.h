// OpenSSL's programs as peers, on loopback: what we make of a TLS implementation that is not ours.
// An s_server, and a TlsSession connected to it.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/unique_fd.h"
#include "common/tls/tls_session.h"
#include "tests/unit/tls/openssl.h"

namespace culvert::tls {

class StockProgram {
 public:
  // Starts openssl with these arguments. Files are looked for in the folder of `openssl`.
  StockProgram(const OpenSsl& openssl, const std::vector<std::string>& arguments) {
    std::vector<std::string> all = {"openssl"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    std::array<int, 2> in{}, out{};
    EXPECT_EQ(0, ::pipe2(in.data(), O_CLOEXEC));
    EXPECT_EQ(0, ::pipe2(out.data(), O_CLOEXEC));
    pid_ = ::fork();
    if (pid_ == 0) {
      std::vector<char*> argv;
      for (auto& one : all)
        argv.push_back(one.data());
      argv.push_back(nullptr);
      ::dup2(in[0], 0);
      ::dup2(out[1], 1);
      ::dup2(out[1], 2);
      if (::chdir(openssl.folder().c_str()) == 0) ::execvp("openssl", argv.data());
      ::_exit(127);
    }
    ::close(in[0]);
    ::close(out[1]);
    input_.reset(in[1]);
    output_.reset(out[0]);
  }
  StockProgram(const StockProgram&) = delete;
  StockProgram& operator=(const StockProgram&) = delete;
  ~StockProgram() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  // Reads what it prints until `text` is in it. Returns all so far; gives up after ten seconds.
  const std::string& wait_for(std::string_view text) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (printed_.find(text) == std::string::npos) {
      pollfd poll{output_.get(), POLLIN, 0};
      if (std::chrono::steady_clock::now() > end || ::poll(&poll, 1, 10000) <= 0) break;
      std::array<char, 4096> part{};
      const ssize_t size = ::read(output_.get(), part.data(), part.size());
      if (size <= 0) break;
      printed_.append(part.data(), static_cast<size_t>(size));
    }
    EXPECT_NE(std::string::npos, printed_.find(text)) << printed_;
    return printed_;
  }
  void type(std::string_view text) {
    EXPECT_EQ(static_cast<ssize_t>(text.size()), ::write(input_.get(), text.data(), text.size()));
  }

 private:
  pid_t pid_ = -1;
  UniqueFd input_;
  UniqueFd output_;
  std::string printed_;
};

class StockServer : public StockProgram {
 public:
  // `arguments` for s_server, beside the port.
  StockServer(const OpenSsl& openssl, const std::vector<std::string>& arguments)
      : StockProgram(openssl, with_port(arguments)) {}

  uint16_t port() {
    const std::string ready = "ACCEPT 127.0.0.1:";
    const std::string& text = wait_for(ready);
    wait_for("\n");
    const size_t at = text.find(ready);
    return at == std::string::npos
               ? uint16_t{0}
               : static_cast<uint16_t>(std::atoi(text.c_str() + at + ready.size()));
  }

 private:
  static std::vector<std::string> with_port(const std::vector<std::string>& arguments) {
    std::vector<std::string> all = {"s_server", "-accept", "127.0.0.1:0", "-naccept", "1"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return all;
  }
};

// A client session with a blocking socket.
class Connected {
 public:
  Connected(std::shared_ptr<const TlsConfig> config, const std::string& name, uint16_t port) {
    session = std::move(*TlsSession::create(std::move(config), name));
    socket_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    timeval limit{10, 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(0, ::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)));
  }

  TlsSession::Io handshake() {
    return drive([this] { return session->handshake(); });
  }
  TlsSession::ReadResult read() {
    buffer.resize(TlsSession::kMaxRecord);
    TlsSession::ReadResult result{};
    drive([this, &result] {
      result = session->read(buffer);
      return result.io;
    });
    return result;
  }
  void flush() {
    while (!session->pending_output().empty()) {
      const Bytes pending = session->pending_output();
      const ssize_t size = ::send(socket_.get(), pending.data(), pending.size(), MSG_NOSIGNAL);
      session->consume_output(size > 0 ? static_cast<size_t>(size) : pending.size());
    }
  }

  std::unique_ptr<TlsSession> session;
  std::vector<std::byte> buffer;

 private:
  template <typename Step>
  TlsSession::Io drive(Step step) {
    for (;;) {
      const TlsSession::Io io = step();
      flush();
      if (io != TlsSession::Io::kWantRead) return io;
      const ssize_t size = ::recv(socket_.get(), network_.data(), network_.size(), 0);
      if (size > 0) {
        session->feed(Bytes(network_).first(static_cast<size_t>(size)));
      } else {
        session->feed_eof();
      }
    }
  }

  UniqueFd socket_;
  std::array<std::byte, 4096> network_{};
};

}  // namespace culvert::tls
