// What the server needs of its host before it serves: a run-time folder, what a killed predecessor
// left behind put back, and how its TUN device has to look.
#pragma once

#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/net/system_request.h"
#include "server/service_user.h"
#include "server/session_manager.h"

namespace culvert::server {

// Lets the process have as many descriptors as it is allowed to: the usual soft limit of 1024 is
// less than the logins that may be under way at once, and each session has one too.
void raise_descriptor_limit();

// The run-time folder is shared with clients, which run as root. One that we make lets the service
// user remove its own files at the end and nobody else's (sticky); one that is there stays as it
// is.
Status make_runtime_folder(const std::string& path, const Account& account);

// The folder for what outlives the server belongs to the service user alone; one that is there
// stays as it is. Its parent has to be there.
Status make_state_folder(const std::string& path, const Account& account);

// Our addresses and an "unreachable" route for each pool, so that the kernel answers for absent
// clients; host routes come with the sessions.
std::vector<net::SystemRequest> device_setup(const SessionManager& sessions,
                                             const std::string& device);

}  // namespace culvert::server
