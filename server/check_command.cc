// culvertd check: all checks in turn, as a list for people or for programs. The exit code is that
// of the first thing that is wrong; warnings don't count.
#include <algorithm>
#include <iomanip>
#include <iostream>
#include <iterator>

#include "common/base/clock.h"
#include "common/control/protocol.h"
#include "server/checks.h"
#include "server/commands.h"
#include "server/config.h"
#include "server/running_server.h"

namespace culvert::server {
namespace {

void append(Findings& all, Findings more) {
  std::move(more.begin(), more.end(), std::back_inserter(all));
}

Findings check_all(const Result<ServerConfig>& config, const Place& place) {
  Findings all;
  if (!config) {
    const Error& error = config.error();
    all.push_back(
        {Grade::kBad, "configuration", error.where + ": " + error.what, error.hint, error.code});
    return all;
  }
  all.push_back({Grade::kGood, "configuration", config->file, {}, ErrorCode::kFailure});
  const bool running = is_running(place);
  append(all, check_certificates(*config, wall_now()));
  append(all, check_account(*config));
  append(all, check_identity(*config));
  append(all, check_users(*config));
  append(all, check_networks(*config, local_networks(config->tun_device)));
  append(all, check_kernel(*config));
  append(all, check_port(*config, running));
  append(all, check_tun(*config, running));
  return all;
}

std::string_view word(Grade grade) {
  switch (grade) {
    case Grade::kGood:
      return "ok";
    case Grade::kWarning:
      return "warning";
    case Grade::kBad:
      return "FAILED";
  }
  return "FAILED";
}

void print(const Findings& all, std::ostream& out) {
  for (const Finding& finding : all) {
    out << std::left << std::setw(9) << word(finding.grade) << std::setw(15) << finding.subject
        << finding.text << "\n";
    if (!finding.hint.empty()) out << std::string(24, ' ') << "-> " << finding.hint << "\n";
  }
}

control::Json to_json(const Findings& all, bool ok) {
  control::Json list = control::Json::array();
  for (const Finding& finding : all) {
    const char* grade = finding.grade == Grade::kGood      ? "ok"
                        : finding.grade == Grade::kWarning ? "warning"
                                                           : "failed";
    list.push_back({{"grade", grade},
                    {"subject", finding.subject},
                    {"text", finding.text},
                    {"hint", finding.hint}});
  }
  return {{"ok", ok}, {"checks", list}};
}

}  // namespace

Status check_command(const CheckOptions& options, std::ostream& out) {
  const Findings all = check_all(load_config(options.place.config_file()), options.place);
  const auto is_bad = [](const Finding& finding) { return finding.grade == Grade::kBad; };
  const auto first = std::find_if(all.begin(), all.end(), is_bad);
  const auto failed = std::count_if(all.begin(), all.end(), is_bad);
  if (options.json) {
    out << control::pretty(to_json(all, failed == 0)) << "\n";
  } else {
    print(all, out);
  }
  if (first == all.end()) {
    if (!options.json) out << "\nNothing stands in the way of this server.\n";
    return {};
  }
  return fail(first->code,
              failed == 1 ? "one check failed" : std::to_string(failed) + " checks failed", {},
              options.json ? "" : "see the lines marked FAILED");
}

}  // namespace culvert::server
