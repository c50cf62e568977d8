// Completion: what may come next on a command line that is still being typed. The shells' scripts
// (shell_script.h) ask the program itself, which looks into the tree that it parses with, so that
// completion and parser never disagree:
//
//   culvertd __complete user re           prints    renew   Make a new certificate …
//                                                   revoke  Shut a user out, at once
//                                                   :nothing
//
// A line for each candidate, a tab before its description; the last line says what the shell itself
// should offer if there is no candidate.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {  // NOLINT(readability-identifier-naming): the library's name
class App;
}

namespace culvert::cli {

// The first argument by which the scripts ask.
inline constexpr std::string_view kCompleteCommand = "__complete";

// A name is wanted that the command line library cannot know, such as that of a user.
struct NameQuestion {
  std::string command;                         // "user revoke"
  std::string value;                           // as the help calls it: "NAME"
  std::map<std::string, std::string> options;  // given so far, by long name: "dir" to "/etc/x"
};
// All names there are; those that don't fit what is typed are left out afterwards.
using Names = std::function<std::vector<std::string>(const NameQuestion&)>;

struct Candidate {
  std::string text;  // replaces the whole word that is being typed
  std::string description;

  friend bool operator==(const Candidate&, const Candidate&) = default;
};

enum class Otherwise { kNothing, kFiles, kFolders };

struct Completions {
  std::vector<Candidate> candidates;
  Otherwise otherwise = Otherwise::kNothing;

  friend bool operator==(const Completions&, const Completions&) = default;
};

// `words` are those after the program's name; the last is being typed and may be empty. How a value
// is completed follows from its type in the help: FILE and PATH are files, DIR is a folder,
// {a,b} is one of these, and a positional of another type is a name. Options without a group are
// hidden, as in the help.
[[nodiscard]] Completions complete(const CLI::App& app, const std::vector<std::string>& words,
                                   const Names& names);

// The lines that the scripts read.
[[nodiscard]] std::string to_text(const Completions& completions);

}  // namespace culvert::cli
