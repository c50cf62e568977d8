#include "server/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <sstream>
#include <utility>

#include "common/base/text.h"
#include "common/cli/shell_script.h"
#include "server/completion.h"
#include "server/pki_store.h"

namespace culvert::server {
namespace {

constexpr int kUsageExit = static_cast<int>(ErrorCode::kUsage);

// The option structs outlive the parse and move into Invocation::run. One shared block, because
// CLI11 keeps references to the fields.
struct Options {
  InitOptions init;
  UserAddOptions user_add;
  UserListOptions user_list;
  UserRevokeOptions user_revoke;
  UserRenewOptions user_renew;
  UserShowOptions user_show;
  PkiInitOptions pki_init;
  PkiIssueOptions pki_issue;
  PkiRevokeOptions pki_revoke;
  PkiCrlOptions pki_crl;
  ExportOptions pki_export;
  CheckOptions check;
  RunCommandOptions run;
  LiveOptions live;
  std::string level;
  std::string format;
  std::string shell;
};
using Shared = std::shared_ptr<Options>;
using Run = std::function<Status(std::ostream&)>;

void add_place(CLI::App& command, Place& place) {
  auto* dir = command.add_option("--dir", place.dir, "Configuration folder (default /etc/culvert)")
                  ->type_name("DIR");
  command.add_option("-c,--config", place.config, "Configuration file (default DIR/culvertd.toml)")
      ->type_name("FILE")
      ->excludes(dir);
}

void add_socket(CLI::App& command, Place& place) {
  command
      .add_option("--socket", place.socket,
                  "Control socket (default $CULVERT_RUNTIME_DIR/culvertd.sock, "
                  "/run/culvert/culvertd.sock)")
      ->type_name("PATH");
}

void add_json(CLI::App& command, bool& json) {
  command.add_flag("--json", json, "Print JSON, for programs");
}

// A subcommand together with what it runs.
CLI::App& add_command(CLI::App& parent, const char* name, const char* description, Run& chosen,
                      Run run) {
  CLI::App& command = *parent.add_subcommand(name, description);
  command.callback([&chosen, run = std::move(run)] { chosen = run; });
  return command;
}

void add_init(CLI::App& app, const Shared& options, Run& chosen) {
  InitOptions& init = options->init;
  CLI::App& command =
      add_command(app, "init", "Make a CA, a server certificate and a configuration", chosen,
                  [options](std::ostream& out) { return init_command(options->init, out); });
  command
      .add_option("--name", init.name, "Name clients know the server by: DNS name or IP address")
      ->required()
      ->type_name("NAME");
  command.add_option("--dir", init.dir, "Where to (default /etc/culvert)")->type_name("DIR");
  command.add_option("--ipv4", init.ipv4, "IPv4 network inside the tunnel, or none")
      ->capture_default_str()
      ->type_name("PREFIX");
  command.add_option("--ipv6", init.ipv6, "IPv6 network inside the tunnel, or none")
      ->capture_default_str()
      ->type_name("PREFIX");
  command.add_option("--listen", init.listen, "What the server binds")
      ->capture_default_str()
      ->type_name("ADDR:PORT");
  command
      .add_option("--address", init.address,
                  "Where clients connect (default: the listen address if it is a concrete one, "
                  "else the name)")
      ->type_name("HOST[:PORT]");
}

void add_days(CLI::App& command, unsigned& days, unsigned usual) {
  command
      .add_option("--days", days,
                  "Validity of the certificate (default " + std::to_string(usual) + ")")
      ->check(CLI::Range(1, static_cast<int>(kCaDays)))
      ->type_name("N");
}

void add_user_care(CLI::App& user, const Shared& options, Run& chosen) {
  UserRenewOptions& renewal = options->user_renew;
  CLI::App& renew = add_command(
      user, "renew", "Make a new certificate and profile for a user", chosen,
      [options](std::ostream& out) { return user_renew_command(options->user_renew, out); });
  renew.add_option("NAME", renewal.name, "The user")->required();
  add_days(renew, renewal.days, kUserDays);
  renew.add_flag("--revoke-old", renewal.revoke_old, "End the certificates that he has, at once");
  renew.add_option("--profile", renewal.profile, "File to write the client profile to")
      ->required()
      ->type_name("FILE");
  add_place(renew, renewal.place);
  add_socket(renew, renewal.place);

  CLI::App& show = add_command(
      user, "show", "All about one user", chosen,
      [options](std::ostream& out) { return user_show_command(options->user_show, out); });
  show.add_option("NAME", options->user_show.name, "The user")->required();
  add_place(show, options->user_show.place);
  add_socket(show, options->user_show.place);
  add_json(show, options->user_show.json);
}

void add_user(CLI::App& app, const Shared& options, Run& chosen) {
  CLI::App& user = *app.add_subcommand("user", "Give people access, and take it back");
  user.require_subcommand(1);

  UserAddOptions& add = options->user_add;
  CLI::App& adding = add_command(
      user, "add", "Make a certificate and a profile for a user", chosen,
      [options](std::ostream& out) { return user_add_command(options->user_add, out); });
  adding.add_option("NAME", add.name, "The user")->required();
  adding.add_option("--group", add.group, "Group (in the certificate and the user's file)")
      ->type_name("G");
  add_days(adding, add.days, kUserDays);
  adding
      .add_option("--network", add.networks,
                  "Network behind the client that is reached through it; can be repeated")
      ->allow_extra_args(false)
      ->type_name("PREFIX");
  adding
      .add_option("--address", add.addresses,
                  "Fixed address inside the tunnel; once for each family")
      ->allow_extra_args(false)
      ->type_name("IP");
  adding.add_option("--profile", add.profile, "File to write the client profile to")
      ->required()
      ->type_name("FILE");
  add_place(adding, add.place);
  add_socket(adding, add.place);

  CLI::App& list = add_command(
      user, "list", "Who has access", chosen,
      [options](std::ostream& out) { return user_list_command(options->user_list, out); });
  add_place(list, options->user_list.place);
  add_json(list, options->user_list.json);

  CLI::App& revoke = add_command(
      user, "revoke", "Shut a user out, at once", chosen,
      [options](std::ostream& out) { return user_revoke_command(options->user_revoke, out); });
  revoke.add_option("NAME", options->user_revoke.name, "The user")->required();
  add_place(revoke, options->user_revoke.place);
  add_socket(revoke, options->user_revoke.place);
  add_user_care(user, options, chosen);
}

void add_authority(CLI::App& pki, const Shared& options, Run& chosen) {
  CLI::App& init = add_command(
      pki, "init", "Make a CA and nothing else", chosen,
      [options](std::ostream& out) { return pki_init_command(options->pki_init, out); });
  init.add_option("--name", options->pki_init.name, "Common name of the CA")
      ->capture_default_str()
      ->type_name("NAME");
  add_place(init, options->pki_init.place);

  PkiIssueOptions& issuing = options->pki_issue;
  CLI::App& issue = add_command(
      pki, "issue", "Issue a certificate, without a user or a profile", chosen,
      [options](std::ostream& out) { return pki_issue_command(options->pki_issue, out); });
  issue.add_option("NAME", issuing.name, "Common name")->required();
  issue.add_flag("--server", issuing.server, "For a server, of the name NAME");
  issue
      .add_option("--host", issuing.hosts, "Another name or address of the server; can be repeated")
      ->allow_extra_args(false)
      ->type_name("HOST");
  issue.add_option("--group", issuing.group, "Organizational unit")->type_name("G");
  issue
      .add_option("--days", issuing.days,
                  "Validity of the certificate (default " + std::to_string(kUserDays) +
                      ", of a server's " + std::to_string(kServerDays) + ")")
      ->check(CLI::Range(1, static_cast<int>(kCaDays)))
      ->type_name("N");
  issue.add_option("--out", issuing.out, "Folder for NAME.crt and NAME.key")
      ->required()
      ->type_name("DIR");
  add_place(issue, issuing.place);

  CLI::App& revoke = add_command(
      pki, "revoke", "Put certificates on the revocation list", chosen,
      [options](std::ostream& out) { return pki_revoke_command(options->pki_revoke, out); });
  revoke.add_option("WHAT", options->pki_revoke.what, "Common name or serial number")->required();
  add_place(revoke, options->pki_revoke.place);
  add_socket(revoke, options->pki_revoke.place);

  CLI::App& crl =
      add_command(pki, "crl", "Sign the revocation list anew and show it", chosen,
                  [options](std::ostream& out) { return pki_crl_command(options->pki_crl, out); });
  add_place(crl, options->pki_crl.place);
  add_socket(crl, options->pki_crl.place);
  add_json(crl, options->pki_crl.json);
}

void add_pki(CLI::App& app, const Shared& options, Run& chosen) {
  CLI::App& pki =
      *app.add_subcommand("pki", "The certificate authority, and certificates as files");
  pki.require_subcommand(1);
  add_authority(pki, options, chosen);
  ExportOptions& exporting = options->pki_export;
  CLI::App& command = add_command(
      pki, "export", "Write a user's certificate and key for other clients", chosen,
      [options](std::ostream& out) { return export_command(options->pki_export, out); });
  command.add_option("NAME", exporting.name, "The user")->required();
  command.add_option("--out", exporting.out, "Folder for NAME.crt, NAME.key and ca.crt")
      ->required()
      ->type_name("DIR");
  add_place(command, exporting.place);
}

void add_server(CLI::App& app, const Shared& options, Run& chosen) {
  CLI::App& check =
      add_command(app, "check", "Look whether everything is in order, and say what to do", chosen,
                  [options](std::ostream& out) { return check_command(options->check, out); });
  add_place(check, options->check.place);
  add_socket(check, options->check.place);
  add_json(check, options->check.json);

  CLI::App& run = add_command(app, "run", "Serve, in the foreground", chosen,
                              [options](std::ostream&) { return run_command(options->run); });
  add_place(run, options->run.place);
  add_socket(run, options->run.place);
}

using LiveCommand = Status (*)(const LiveOptions&, std::ostream&);

CLI::App& add_live_command(CLI::App& app, const char* name, const char* description,
                           const Shared& options, Run& chosen, LiveCommand function) {
  CLI::App& command =
      add_command(app, name, description, chosen,
                  [options, function](std::ostream& out) { return function(options->live, out); });
  // --dir and -c are taken, as everywhere, although the socket alone says which server is meant.
  add_place(command, options->live.place);
  add_socket(command, options->live.place);
  add_json(command, options->live.json);
  return command;
}

void add_live(CLI::App& app, const Shared& options, Run& chosen) {
  add_live_command(app, "status", "How the running server is", options, chosen, status_command);
  add_live_command(app, "sessions", "Who is connected", options, chosen, sessions_command);
  CLI::App& disconnect =
      add_live_command(app, "disconnect", "End sessions", options, chosen, disconnect_command);
  disconnect.add_option("WHO", options->live.who, "User name or session id")->required();
  add_live_command(app, "reload", "Read configuration, certificates and users again", options,
                   chosen, reload_command);
}

void add_completion(CLI::App& app, const Shared& options, Run& chosen) {
  CLI::App& command = add_command(app, "completion", "Print the completion script of a shell",
                                  chosen, [options](std::ostream& out) -> Status {
                                    out << cli::completion_script(options->shell, "culvertd");
                                    return {};
                                  });
  command.add_option("SHELL", options->shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember(std::vector<std::string>(cli::kShells.begin(), cli::kShells.end())));
}

void add_global(CLI::App& app, const Shared& options) {
  app.set_version_flag("--version", "culvertd " CULVERT_VERSION);
  app.add_option("--log-level", options->level, "trace, debug, info, warning or error")
      ->check(CLI::IsMember({"trace", "debug", "info", "warning", "error"}))
      ->type_name("LEVEL");
  app.add_option("--log-format", options->format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->type_name("FORMAT");
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return names;
}

std::string unknown_command(const std::string& word, const std::vector<std::string>& names) {
  const std::vector<std::string_view> views(names.begin(), names.end());
  const auto near = nearest(word, views);
  return "there is no command '" + escape_for_display(word) + "'" +
         (near ? "; did you mean '" + std::string(*near) + "'?" : "");
}

std::string missing_command(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names)
    list += (list.empty() ? "" : ", ") + name;
  return "a command is missing: " + list;
}

// What is wrong with the words that should be commands; nothing if they are in order. CLI11 only
// says that one is required.
std::string command_problem(const CLI::App& app, const std::vector<std::string>& arguments) {
  const CLI::App* current = &app;
  for (const std::string& word : arguments) {
    if (word.empty() || word.front() == '-') continue;
    const auto names = command_names(*current);
    if (names.empty()) return {};
    if (std::find(names.begin(), names.end(), word) == names.end()) {
      return unknown_command(word, names);
    }
    current = current->get_subcommand(word);
  }
  const auto names = command_names(*current);
  return names.empty() ? std::string() : missing_command(names);
}

Invocation early(const CLI::App& app, const CLI::ParseError& error,
                 const std::vector<std::string>& arguments) {
  Invocation out;
  std::ostringstream standard;
  std::ostringstream problem;
  // CLI11's own numbers for errors (106, …) are none of our exit codes.
  out.exit_code = app.exit(error, standard, problem) == 0 ? 0 : kUsageExit;
  if (out.exit_code == 0) {
    out.text = standard.str();
    return out;
  }
  std::string what = error.what();
  if (error.get_name() == "RequiredError" || error.get_name() == "ExtrasError") {
    if (const std::string problem_with = command_problem(app, arguments); !problem_with.empty()) {
      what = problem_with;
    }
  }
  out.text = "culvertd: " + what + "\n          culvertd --help, or culvertd COMMAND --help\n";
  return out;
}

}  // namespace

Invocation parse_command_line(const std::vector<std::string>& arguments) {
  const auto options = std::make_shared<Options>();
  Run chosen;
  CLI::App app("Culvert SSL VPN server", "culvertd");
  app.require_subcommand(1);
  app.fallthrough();
  app.failure_message(CLI::FailureMessage::simple);
  add_global(app, options);
  add_init(app, options, chosen);
  add_user(app, options, chosen);
  add_pki(app, options, chosen);
  add_server(app, options, chosen);
  add_live(app, options, chosen);
  add_completion(app, options, chosen);

  Invocation out;
  if (arguments.empty()) {
    out.text = app.help();
    out.exit_code = kUsageExit;
    return out;
  }
  if (arguments.front() == cli::kCompleteCommand) {
    out.text = cli::to_text(
        cli::complete(app, {std::next(arguments.begin()), arguments.end()}, names_for));
    return out;
  }
  try {
    // CLI11 takes a vector from its end.
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::ParseError& error) {
    return early(app, error, arguments);
  }
  out.run = std::move(chosen);
  out.is_run = app.got_subcommand("run");
  out.level = log::parse_level(options->level);
  out.format = log::parse_format(options->format);
  options->run.level = out.level;
  options->run.format = out.format;
  return out;
}

}  // namespace culvert::server
