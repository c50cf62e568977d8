#include "common/loop/child.h"

#include <uv.h>

#include <array>
#include <cassert>
#include <csignal>
#include <optional>
#include <utility>

#include "common/loop/handle_close.h"
#include "common/loop/loop_state.h"
#include "common/loop/timer.h"

namespace culvert::loop {

// Dies when its owner has let go of it and libuv is done with all its handles.
//
//   running --> the process ends, and both outputs reach their end --> on_exit
//      \--> too long, too much, abandoned: SIGKILL to its group --> the process ends --> on_exit
struct Child::Process {
  explicit Process(Loop& loop) : state(loop.state()), limit(loop) {}

  Status spawn(std::vector<std::string> argv);
  void feed(std::string text);
  void collect(uv_pipe_t& pipe);
  void give_up(Error reason);
  void kill_group() noexcept;
  void finish_if_over();
  void close_all() noexcept;
  void close(uv_handle_t* handle) noexcept;
  void delete_if_unused() noexcept;

  [[nodiscard]] auto pipes() { return std::array{&in, &out, &err}; }
  static Process& of(void* data) { return *static_cast<Process*>(data); }

  Loop::State& state;
  uv_process_t process{};
  uv_pipe_t in{}, out{}, err{};
  uv_write_t write{};
  Timer limit;
  std::string program;
  std::string input;                  // lives until it is written
  std::array<char, 16384> scratch{};  // for both outputs: libuv fills it and calls back at once
  ChildResult result;
  std::optional<Error> failure;
  CallbackSlot<void(Result<ChildResult>)> on_exit;
  int open_handles = 0;
  bool spawned = false;
  bool exited = false;
  bool abandoned = false;
};

Status Child::Process::spawn(std::vector<std::string> argv) {
  for (uv_pipe_t* pipe : pipes()) {
    must(uv_pipe_init(&state.uv, pipe, 0));
    pipe->data = this;
  }
  process.data = this;
  open_handles = 4;

  std::vector<char*> arguments;
  arguments.reserve(argv.size() + 1);
  for (auto& argument : argv)
    arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  std::string path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
  std::string locale = "LC_ALL=C";
  std::array<char*, 3> environment{path.data(), locale.data(), nullptr};

  std::array<uv_stdio_container_t, 3> stdio{};
  const std::array<int, 3> direction{UV_READABLE_PIPE, UV_WRITABLE_PIPE, UV_WRITABLE_PIPE};
  for (size_t i = 0; i < stdio.size(); ++i) {
    stdio[i].flags = static_cast<uv_stdio_flags>(UV_CREATE_PIPE | direction[i]);
    stdio[i].data.stream = reinterpret_cast<uv_stream_t*>(pipes()[i]);
  }
  uv_process_options_t options{};
  options.file = arguments[0];
  options.args = arguments.data();
  options.env = environment.data();
  options.flags = UV_PROCESS_DETACHED;  // setsid(): one group to kill, and no Ctrl-C from our shell
  options.stdio = stdio.data();
  options.stdio_count = stdio.size();
  options.exit_cb = [](uv_process_t* handle, int64_t status, int signal) noexcept {
    Process& self = of(handle->data);
    self.exited = true;
    self.result.exit_status = static_cast<int>(status);
    self.result.signal = signal;
    self.finish_if_over();
  };
  program = argv[0];
  if (const int code = uv_spawn(&state.uv, &process, &options); code != 0)
    return fail_errno(ErrorCode::kFailure, -code, "cannot start the program", program);
  spawned = true;
  return {};
}

void Child::Process::feed(std::string text) {
  input = std::move(text);
  uv_buf_t piece = uv_buf_init(input.data(), static_cast<unsigned>(input.size()));
  // A program that doesn't read its input is no failure of ours: the status tells.
  const auto written = [](uv_write_t* request, int) noexcept {
    Process& self = of(request->handle->data);
    self.close(reinterpret_cast<uv_handle_t*>(&self.in));
  };
  if (input.empty() ||
      uv_write(&write, reinterpret_cast<uv_stream_t*>(&in), &piece, 1, written) != 0)
    close(reinterpret_cast<uv_handle_t*>(&in));
}

void Child::Process::collect(uv_pipe_t& pipe) {
  const auto allocate = [](uv_handle_t* handle, size_t, uv_buf_t* buffer) noexcept {
    auto& memory = of(handle->data).scratch;
    *buffer = uv_buf_init(memory.data(), unsigned{sizeof memory});
  };
  const auto read = [](uv_stream_t* stream, ssize_t size, const uv_buf_t*) noexcept {
    Process& self = of(stream->data);
    if (size < 0) {
      self.close(reinterpret_cast<uv_handle_t*>(stream));
      self.finish_if_over();
      return;
    }
    auto& text =
        stream == reinterpret_cast<uv_stream_t*>(&self.out) ? self.result.out : self.result.err;
    if (self.failure) return;
    text.append(self.scratch.data(), static_cast<size_t>(size));
    if (text.size() > kMaxChildOutput)
      self.give_up(fail(ErrorCode::kFailure, "wrote more than we take", self.program));
  };
  must(uv_read_start(reinterpret_cast<uv_stream_t*>(&pipe), allocate, read));
}

void Child::Process::give_up(Error reason) {
  if (!failure) failure = std::move(reason);
  kill_group();
  finish_if_over();
}

void Child::Process::kill_group() noexcept {
  // After its end the number may be somebody else's.
  if (spawned && !exited) ::kill(-process.pid, SIGKILL);
}

void Child::Process::finish_if_over() {
  const auto closing = [](uv_pipe_t& pipe) {
    return uv_is_closing(reinterpret_cast<uv_handle_t*>(&pipe)) != 0;
  };
  // After a failure nobody waits for what a grandchild may still say.
  if (!exited || !(failure || abandoned || (closing(out) && closing(err)))) return;
  close_all();
  if (failure)
    on_exit.call_once(std::move(*failure));
  else
    on_exit.call_once(std::move(result));
}

void Child::Process::close_all() noexcept {
  limit.stop();
  for (uv_pipe_t* pipe : pipes())
    close(reinterpret_cast<uv_handle_t*>(pipe));
  close(reinterpret_cast<uv_handle_t*>(&process));
}

void Child::Process::close(uv_handle_t* handle) noexcept {
  if (uv_is_closing(handle) != 0) return;
  uv_close(handle, [](uv_handle_t* closed) {
    Process& self = of(closed->data);
    --self.open_handles;
    self.delete_if_unused();
  });
}

void Child::Process::delete_if_unused() noexcept {
  if (open_handles > 0 || !abandoned) return;
  --state.abandoned_children;
  delete this;
}

void Child::Abandon::operator()(Process* process) const noexcept {
  process->abandoned = true;
  ++process->state.abandoned_children;
  process->on_exit.clear();
  process->kill_group();
  if (!process->spawned) process->close_all();
  process->finish_if_over();
  process->delete_if_unused();
}

Child::Child() = default;
Child::Child(Process* process) : process_(process) {}
Child::Child(Child&&) noexcept = default;
Child& Child::operator=(Child&&) noexcept = default;
Child::~Child() = default;

Result<Child> Child::run(Loop& loop, std::vector<std::string> argv, std::string stdin_text,
                         Duration limit, OnExit on_exit) {
  assert(!argv.empty() && limit > Duration::zero());
  Child child(new Process(loop));
  Process& process = *child.process_;
  if (auto spawned = process.spawn(std::move(argv)); !spawned) return spawned.error();
  process.on_exit.set(std::move(on_exit));
  process.feed(std::move(stdin_text));
  process.collect(process.out);
  process.collect(process.err);
  process.limit.start(limit, [&process] {
    process.give_up(fail(ErrorCode::kFailure, "took too long", process.program));
  });
  return child;
}

}  // namespace culvert::loop
