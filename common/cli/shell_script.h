// The completion scripts of bash, zsh and fish. They know nothing of commands and options: at each
// tab they ask the program (completion.h).
#pragma once

#include <array>
#include <string>
#include <string_view>

namespace culvert::cli {

inline constexpr std::array<const char*, 3> kShells{"bash", "zsh", "fish"};

// For `program`, the name that it is called by: letters and digits. REQUIRES: one of kShells.
[[nodiscard]] std::string completion_script(std::string_view shell, std::string_view program);

}  // namespace culvert::cli
