#include "client/cli.h"

#include <CLI/CLI.hpp>
#include <iostream>

#include "client/completion.h"
#include "common/cli/shell_script.h"
#include "common/config/duration.h"

namespace culvert::client {
namespace {

// A number of seconds, or a number and a unit.
std::optional<Duration> parse_timeout(const std::string& text) {
  const bool bare = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  const auto duration = config::parse_duration(bare ? text + "s" : text);
  if (!duration || *duration <= Duration::zero()) return std::nullopt;
  return *duration;
}

// Builds the tree of subcommands; each sets `kind` when it is chosen.
class CommandLine {
 public:
  CommandLine() : app_("Culvert: SSL VPN client", "culvert") {
    app_.set_version_flag("--version", "culvert " CULVERT_VERSION);
    app_.require_subcommand(0, 1);
    app_.fallthrough();
    app_.footer(
        "Without a command: status.\nExit status: 0 done, 1 failure, 2 usage, 3 authentication "
        "refused, 4 needs interaction,\n5 server not trusted, 6 network, 7 not running, 8 already "
        "up, 9 permission.");
    app_.add_option("--socket", command_.socket, "Control socket (default: in /run/culvert)")
        ->type_name("PATH");
    app_.add_option_function<std::string>(
            "--log-level",
            [this](const std::string& word) {
              set(log::parse_level(word), command_.log_level,
                  "trace, debug, info, warning or error");
            },
            "trace, debug, info, warning or error")
        ->check(CLI::IsMember({"trace", "debug", "info", "warning", "error"}))
        ->type_name("LEVEL");
    app_.add_option_function<std::string>(
            "--log-format",
            [this](const std::string& word) {
              set(log::parse_format(word), command_.log_format, "text or json");
            },
            "text or json")
        ->check(CLI::IsMember({"text", "json"}))
        ->type_name("FORMAT");
    add_profile_commands();
    add_tunnel_commands();
    app_.add_subcommand("completion", "Print the completion script of a shell")
        ->add_option("SHELL", shell_, "bash, zsh or fish")
        ->required()
        ->check(CLI::IsMember(std::vector<std::string>(cli::kShells.begin(), cli::kShells.end())));
  }

  ParsedCommandLine parse(int argc, const char* const* argv) {
    if (argc > 1 && argv[1] == cli::kCompleteCommand) {
      std::cout << cli::to_text(cli::complete(app_, {argv + 2, argv + argc}, names_for));
      return {std::nullopt, 0};
    }
    try {
      app_.parse(argc, argv);
    } catch (const CLI::Success& help) {
      return {std::nullopt, app_.exit(help)};
    } catch (const CLI::Error& error) {
      std::cerr << "culvert: " << error.what() << " (culvert --help)\n";
      return {std::nullopt, static_cast<int>(ErrorCode::kUsage)};
    }
    if (!shell_.empty()) {
      std::cout << cli::completion_script(shell_, "culvert");
      return {std::nullopt, 0};
    }
    return {command_, 0};
  }

 private:
  template <typename T, typename Into>
  static void set(const std::optional<T>& value, Into& into, const char* expected) {
    if (!value) throw CLI::ValidationError(std::string("expected ") + expected);
    into = *value;
  }

  CLI::App* add(Command::Kind kind, const char* name, const char* description) {
    CLI::App* const sub = app_.add_subcommand(name, description);
    sub->callback([this, kind] { command_.kind = kind; });
    return sub;
  }

  void add_json(CLI::App* sub) { sub->add_flag("--json", command_.json, "Print JSON"); }

  CLI::Option* add_target(CLI::App* sub, const char* type, const char* description) {
    return sub->add_option("target", command_.target, description)->type_name(type);
  }

  void add_profile_commands() {
    auto* import = add(Command::Kind::kImport, "import", "Take a profile");
    add_target(import, "FILE", "Profile as `culvertd user add` writes it")->required();
    import->add_option("--name", command_.name, "What to call it (default: the file's name)")
        ->type_name("NAME");
    import->add_flag("--replace", command_.replace, "Overwrite a profile of that name");
    add_json(add(Command::Kind::kList, "list", "Profiles, and which of them are up"));
    auto* remove = add(Command::Kind::kRemove, "remove", "Delete a profile");
    add_target(remove, "NAME", "Profile")->required();
  }

  void add_tunnel_commands() {
    auto* connect = add(Command::Kind::kConnect, "connect",
                        "Bring the tunnel up in the background; returns when it carries packets");
    add_starting_options(connect);
    add_json(connect);
    add_starting_options(
        add(Command::Kind::kRun, "run", "Run the tunnel in the foreground, for services"));
    auto* status = add(Command::Kind::kStatus, "status", "What the tunnel is doing");
    add_target(status, "NAME", "Tunnel (default: the only one)");
    add_json(status);
    status->add_flag("--watch", command_.watch, "Print it every second until the tunnel ends");
    auto* disconnect =
        add(Command::Kind::kDisconnect, "disconnect", "End the tunnel and put everything back");
    add_target(disconnect, "NAME", "Tunnel (default: the only one)");
    auto* cleanup = add(Command::Kind::kCleanup, "cleanup",
                        "Put back what a killed client has left in the system");
    add_target(cleanup, "NAME", "Tunnel (default: all that are not running)");
  }

  void add_starting_options(CLI::App* sub) {
    add_target(sub, "NAME|FILE|URL", "Profile, or https://HOST[:PORT] with the options below");
    sub->add_option("--ca", command_.files.ca, "CA certificates (PEM), with a URL")
        ->type_name("FILE");
    sub->add_option("--cert", command_.files.certificate, "Our certificate (PEM), with a URL")
        ->type_name("FILE");
    sub->add_option("--key", command_.files.key, "Its private key (PEM), with a URL")
        ->type_name("FILE");
    sub->add_option("--crl", command_.files.crl, "Revocation list of the CA (PEM), with a URL")
        ->type_name("FILE");
    sub->add_option_function<std::string>(
           "--timeout",
           [this](const std::string& text) {
             set(parse_timeout(text), command_.timeout, "a time such as 30s");
           },
           "Give up the first attempt after this long (default 30s)")
        ->type_name("TIME");
    sub->add_flag("--persist", command_.persist, "Keep trying when the first attempt fails");
  }

  CLI::App app_;
  Command command_;
  std::string shell_;  // of the command completion
};

}  // namespace

ParsedCommandLine parse_command_line(int argc, const char* const* argv) {
  return CommandLine().parse(argc, argv);
}

}  // namespace culvert::client
