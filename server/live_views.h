// What `culvertd status` and `culvertd sessions` show a person: the answers of control_commands.h
// as text. Pure; members that are missing or of an unexpected type are shown as "-".
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace culvert::server {

[[nodiscard]] std::string status_view(const nlohmann::json& status);
[[nodiscard]] std::string sessions_view(const nlohmann::json& sessions);

// "1.4 MB", "512 B".
[[nodiscard]] std::string human_bytes(double bytes);
// "3d 4h", "2m 10s".
[[nodiscard]] std::string human_seconds(double seconds);

}  // namespace culvert::server
