#include "common/cli/completion.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>

#include "common/cli/shell_script.h"

namespace culvert::cli {
namespace {

using Words = std::vector<std::string>;

// A program with every kind of option, value and positional that ours have.
class Completion : public testing::Test {
 protected:
  Completion() : app_("A program", "program") {
    app_.require_subcommand(1);
    app_.fallthrough();
    app_.add_option("--level", level_, "How much")->check(CLI::IsMember({"info", "debug"}));
    auto* user = app_.add_subcommand("user", "People");
    auto* add = user->add_subcommand("add", "Let in");
    add->add_option("NAME", name_, "Who")->required();
    add->add_option("-c,--config", config_, "Configuration")->type_name("FILE");
    add->add_option("--dir", dir_, "Folder")->type_name("DIR");
    add->add_option("--network", networks_, "Can be repeated")
        ->allow_extra_args(false)
        ->type_name("PREFIX");
    add->add_flag("--json", json_, "Print JSON");
    add->add_flag("--secret", json_, "Not for people")->group("");
    user->add_subcommand("list", "Who is in");
    auto* connect = app_.add_subcommand("connect", "Come in");
    connect->add_option("target", name_, "Profile")->type_name("NAME|FILE|URL");
  }

  Completions complete(const Words& words) {
    return cli::complete(app_, words, [this](const NameQuestion& question) {
      asked_.push_back(question);
      return Words{"alice", "albert", "bob"};
    });
  }
  Words texts(const Words& words) {
    Words out;
    for (const Candidate& candidate : complete(words).candidates)
      out.push_back(candidate.text);
    return out;
  }

  CLI::App app_;
  std::string level_, name_, config_, dir_;
  Words networks_;
  bool json_ = false;
  std::vector<NameQuestion> asked_;
};

TEST_F(Completion, OffersCommandsWithTheirDescriptions) {
  const Completions all = complete({""});
  ASSERT_EQ(all.candidates.size(), 2U);
  EXPECT_EQ(all.candidates[0], (Candidate{"user", "People"}));
  EXPECT_EQ(all.otherwise, Otherwise::kNothing);
  EXPECT_EQ(texts({"co"}), Words{"connect"});
  EXPECT_EQ(texts({"user", ""}), (Words{"add", "list"}));
  EXPECT_EQ(texts({"user", "x"}), Words{});
  EXPECT_EQ(texts({}), (Words{"user", "connect"}));
}

TEST_F(Completion, OffersTheOptionsOfTheCommandAndOfThoseAboveIt) {
  EXPECT_EQ(texts({"user", "add", "-"}),
            (Words{"--help", "--config", "--dir", "--network", "--json", "--level"}));
  EXPECT_EQ(texts({"user", "add", "--d"}), Words{"--dir"});
}

TEST_F(Completion, OffersNoOptionTwiceUnlessItCanBeRepeated) {
  EXPECT_EQ(
      texts({"user", "add", "--json", "-c", "x", "--network", "10.0.0.0/8", "--level=info", "--"}),
      (Words{"--help", "--dir", "--network"}));
}

TEST_F(Completion, ValuesFollowTheirType) {
  EXPECT_EQ(texts({"--level", ""}), (Words{"info", "debug"}));
  EXPECT_EQ(texts({"--level=d"}), Words{"--level=debug"});
  EXPECT_EQ(complete({"user", "add", "-c", ""}).otherwise, Otherwise::kFiles);
  EXPECT_EQ(complete({"user", "add", "--config=x"}).otherwise, Otherwise::kFiles);
  EXPECT_EQ(complete({"user", "add", "--dir", ""}).otherwise, Otherwise::kFolders);
  EXPECT_EQ(complete({"user", "add", "--network", ""}), Completions{});
  EXPECT_EQ(complete({"--json=x"}), Completions{});
}

TEST_F(Completion, AsksForNamesWithWhatIsKnown) {
  EXPECT_EQ(texts({"user", "add", "--dir", "/etc/x", "--json", "al"}), (Words{"alice", "albert"}));
  ASSERT_EQ(asked_.size(), 1U);
  EXPECT_EQ(asked_[0].command, "user add");
  EXPECT_EQ(asked_[0].value, "NAME");
  EXPECT_EQ(asked_[0].options.at("dir"), "/etc/x");
  // Each positional is given once.
  EXPECT_EQ(texts({"user", "add", "alice", ""}), Words{});
}

TEST_F(Completion, NamesComeBeforeFiles) {
  const Completions some = complete({"connect", "a"});
  EXPECT_EQ(some.candidates.size(), 2U);
  EXPECT_EQ(some.otherwise, Otherwise::kFiles);
  EXPECT_EQ(asked_[0].value, "NAME|FILE|URL");
}

TEST_F(Completion, ADoubleDashEndsTheOptions) {
  EXPECT_EQ(texts({"connect", "--", "-"}), Words{});
  EXPECT_EQ(texts({"connect", "--", "b"}), Words{"bob"});
}

TEST_F(Completion, NonsenseIsPassedOver) {
  EXPECT_EQ(texts({"--unknown", "-", "user", "--", "=", "", "a"}), Words{});
  EXPECT_EQ(texts({"--unknown=", "user", "a"}), Words{"add"});
}

TEST(CompletionText, IsALineForEachAndTheRestLast) {
  const Completions completions{{{"user", "People,\n\tall of them"}, {"alice", ""}},
                                Otherwise::kFolders};
  EXPECT_EQ(to_text(completions), "user\tPeople,  all of them\nalice\n:folders\n");
}

TEST(ShellScript, IsMadeForTheProgram) {
  for (const char* shell : kShells) {
    const std::string text = completion_script(shell, "program");
    EXPECT_EQ(text.find("%P"), std::string::npos) << shell;
    EXPECT_NE(text.find("program completion " + std::string(shell)), std::string::npos) << shell;
    EXPECT_NE(text.find(kCompleteCommand), std::string::npos) << shell;
  }
}

}  // namespace
}  // namespace culvert::cli
