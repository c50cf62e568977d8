#include "common/cli/completion.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>

#include "common/base/text.h"

namespace culvert::cli {
namespace {

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

bool is_hidden(const CLI::Option& option) {
  return option.get_group().empty();
}

bool takes_value(const CLI::Option& option) {
  return option.get_items_expected_max() > 0;
}

// "dir" for --dir; "c" for an option that is only -c.
std::string key_of(const CLI::Option& option) {
  return option.get_single_name();
}

// "LEVEL" of "LEVEL:{debug,info}". A positional without a type of its own is called by its name.
std::string value_name(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  std::string name = type.substr(0, type.find_first_of(":{"));
  if (name == "TEXT" && option.get_positional()) name = option.get_name(true);
  return name;
}

// "debug" and "info" of "LEVEL:{debug,info}".
std::vector<std::string> choices(const CLI::Option& option) {
  std::vector<std::string> out;
  const std::string type = option.get_type_name();
  const size_t open = type.find('{');
  const size_t close = type.find('}', open);
  if (open == std::string::npos || close == std::string::npos) return out;
  for (const auto word : split(std::string_view(type).substr(open + 1, close - open - 1), ','))
    out.emplace_back(word);
  return out;
}

Otherwise otherwise(const CLI::Option& option) {
  const std::string name = value_name(option);
  for (const auto word : split(name, '|')) {
    if (word == "FILE" || word == "PATH") return Otherwise::kFiles;
    if (word == "DIR") return Otherwise::kFolders;
  }
  return Otherwise::kNothing;
}

// Goes along the finished words as the parser would, but is content with anything.
class Walk {
 public:
  Walk(const CLI::App& app, const Names& names) : app_(&app), names_(names) {}

  void pass(const std::string& word);
  [[nodiscard]] Completions finish(const std::string& typed) const;

 private:
  [[nodiscard]] const CLI::Option* find(const std::string& name) const;
  [[nodiscard]] const CLI::App* subcommand(const std::string& word) const;
  [[nodiscard]] const CLI::Option* positional() const;
  [[nodiscard]] bool may_be_given(const CLI::Option& option) const;
  [[nodiscard]] Completions value_of(const CLI::Option& option, const std::string& before,
                                     const std::string& typed) const;
  void add_options(Completions& out, const std::string& typed) const;
  void add_commands(Completions& out, const std::string& typed) const;
  void note(const CLI::Option& option, std::string value) {
    question_.options[key_of(option)] = std::move(value);
  }

  const CLI::App* app_;
  const Names& names_;
  NameQuestion question_;              // so far
  size_t position_ = 0;                // positionals that were passed
  const CLI::Option* owed_ = nullptr;  // the option whose value is the next word
  bool only_positionals_ = false;      // after "--"
};

// Of the command or, as the parser lets them fall through, of those above it.
const CLI::Option* Walk::find(const std::string& name) const {
  for (const CLI::App* app = app_; app != nullptr; app = app->get_parent()) {
    if (const auto* option = app->get_option_no_throw(name)) return option;
  }
  return nullptr;
}

const CLI::App* Walk::subcommand(const std::string& word) const {
  if (only_positionals_ || position_ > 0) return nullptr;
  const auto found =
      app_->get_subcommands([&](const CLI::App* app) { return app->get_name() == word; });
  return found.empty() ? nullptr : found.front();
}

void Walk::pass(const std::string& word) {
  if (owed_ != nullptr) {
    note(*std::exchange(owed_, nullptr), word);
  } else if (!only_positionals_ && word == "--") {
    only_positionals_ = true;
  } else if (!only_positionals_ && word.size() > 1 && word.front() == '-') {
    const size_t equals = word.find('=');
    const CLI::Option* const option = find(word.substr(0, equals));
    if (option == nullptr) return;
    const bool later = takes_value(*option) && equals == std::string::npos;
    if (later) owed_ = option;
    note(*option, later || equals == std::string::npos ? "" : word.substr(equals + 1));
  } else if (const CLI::App* const command = subcommand(word)) {
    app_ = command;
    question_.command += (question_.command.empty() ? "" : " ") + word;
  } else {
    ++position_;
  }
}

const CLI::Option* Walk::positional() const {
  const auto all = app_->get_options(
      [](const CLI::Option* option) { return option->get_positional() && !is_hidden(*option); });
  if (position_ < all.size()) return all[position_];
  const bool repeated = !all.empty() && all.back()->get_items_expected_max() > 1;
  return repeated ? all.back() : nullptr;
}

bool Walk::may_be_given(const CLI::Option& option) const {
  return option.nonpositional() && !is_hidden(option) &&
         (option.get_items_expected_max() > 1 || question_.options.count(key_of(option)) == 0);
}

Completions Walk::value_of(const CLI::Option& option, const std::string& before,
                           const std::string& typed) const {
  Completions out;
  out.otherwise = otherwise(option);
  std::vector<std::string> values = choices(option);
  if (values.empty() && !option.nonpositional() && names_) {
    NameQuestion question = question_;
    question.value = value_name(option);
    values = names_(question);
  }
  for (const std::string& value : values) {
    if (starts_with(value, typed)) out.candidates.push_back({before + value, ""});
  }
  return out;
}

void Walk::add_options(Completions& out, const std::string& typed) const {
  for (const CLI::App* app = app_; app != nullptr; app = app->get_parent()) {
    for (const CLI::Option* option : app->get_options()) {
      if (!may_be_given(*option)) continue;
      const bool is_long = !option->get_lnames().empty();
      const std::string name =
          is_long ? "--" + option->get_lnames().front() : "-" + option->get_snames().front();
      const bool known = std::any_of(out.candidates.begin(), out.candidates.end(),
                                     [&](const Candidate& c) { return c.text == name; });
      if (starts_with(name, typed) && !known)
        out.candidates.push_back({name, option->get_description()});
    }
  }
}

void Walk::add_commands(Completions& out, const std::string& typed) const {
  for (const CLI::App* command : app_->get_subcommands([](const CLI::App*) { return true; })) {
    if (!command->get_group().empty() && starts_with(command->get_name(), typed))
      out.candidates.push_back({command->get_name(), command->get_description()});
  }
}

Completions Walk::finish(const std::string& typed) const {
  if (owed_ != nullptr) return value_of(*owed_, "", typed);
  Completions out;
  if (!only_positionals_ && starts_with(typed, "-")) {
    const size_t equals = typed.find('=');
    if (equals == std::string::npos) {
      add_options(out, typed);
    } else if (const auto* option = find(typed.substr(0, equals));
               option != nullptr && takes_value(*option)) {
      out = value_of(*option, typed.substr(0, equals + 1), typed.substr(equals + 1));
    }
    return out;
  }
  if (const CLI::Option* option = positional()) out = value_of(*option, "", typed);
  if (position_ == 0 && !only_positionals_) add_commands(out, typed);
  return out;
}

// A description is one line, and a tab separates.
std::string on_one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20; }, ' ');
  return text;
}

}  // namespace

Completions complete(const CLI::App& app, const std::vector<std::string>& words,
                     const Names& names) {
  Walk walk(app, names);
  for (size_t i = 0; i + 1 < words.size(); ++i)
    walk.pass(words[i]);
  return walk.finish(words.empty() ? "" : words.back());
}

std::string to_text(const Completions& completions) {
  std::string out;
  for (const Candidate& candidate : completions.candidates) {
    out += on_one_line(candidate.text);
    if (!candidate.description.empty()) out += "\t" + on_one_line(candidate.description);
    out += "\n";
  }
  switch (completions.otherwise) {
    case Otherwise::kNothing:
      return out + ":nothing\n";
    case Otherwise::kFiles:
      return out + ":files\n";
    case Otherwise::kFolders:
      return out + ":folders\n";
  }
  return out;
}

}  // namespace culvert::cli
