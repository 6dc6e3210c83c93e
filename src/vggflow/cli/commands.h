#pragma once
// The commands of the binary: each parses its arguments and makes one call into the libraries.

#include <string>
#include <vector>

namespace vggflow::cli {

/// Arguments that every configured command takes: --config FILE and key=value overrides.
struct ConfigArguments {
  std::string file;
  std::vector<std::string> overrides;
};

void pretrain(const ConfigArguments& arguments);
void align(const ConfigArguments& arguments);

}  // namespace vggflow::cli
