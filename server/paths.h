// Where things are when nobody says otherwise.
#pragma once

#include <string>
#include <string_view>

namespace culvert::server {

// `dir` made absolute, /etc/culvert if empty; without a trailing slash.
[[nodiscard]] std::string config_dir(std::string_view dir);

// $CULVERT_RUNTIME_DIR/culvertd.sock, or /run/culvert/culvertd.sock.
[[nodiscard]] std::string default_control_socket();

[[nodiscard]] std::string absolute_path(std::string_view path);

}  // namespace culvert::server
