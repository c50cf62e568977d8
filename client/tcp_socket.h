// TCP sockets towards the server, before anything is spoken on them.
#pragma once

#include "common/base/address.h"
#include "common/base/result.h"

namespace culvert::client {

// Sets what all our connections have in common and starts connecting; writable is connected, or
// failed with SO_ERROR. kNetwork if it fails at once. REQUIRES: a non-blocking TCP socket of the
// endpoint's family, not connected.
Status start_connecting(int socket, const Endpoint& endpoint);

}  // namespace culvert::client
