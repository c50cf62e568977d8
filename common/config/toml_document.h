// The parsed document behind TomlFile. For the files that implement toml_file.h only, because it
// brings toml++ with it.
#pragma once

#include <toml++/toml.h>

#include "common/config/toml_file.h"

namespace culvert::config {

struct TomlFile::Document {
  toml::table root;
};

}  // namespace culvert::config
