// Where things are when nobody says otherwise.
#pragma once

#include <string>
#include <string_view>

namespace culvert::server {

// `dir` made absolute, /etc/culvert if empty; without a trailing slash.
[[nodiscard]] std::string config_dir(std::string_view dir);

// $CULVERT_RUNTIME_DIR/culvertd.sock, or /run/culvert/culvertd.sock.
[[nodiscard]] std::string default_control_socket();

// Where the server that answers on this control socket keeps what outlives it:
// $CULVERT_STATE_DIR/NAME.db, or /var/lib/culvert/NAME.db, where NAME is the socket's without
// ".sock".
[[nodiscard]] std::string state_file(std::string_view control_socket);

[[nodiscard]] std::string absolute_path(std::string_view path);

}  // namespace culvert::server
