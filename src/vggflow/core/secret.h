#pragma once
// Users and passwords in addresses (http://user:password@host) are needed to ask the host, and are
// written nowhere: settings hold, save and log the address without them.

#include <string>

namespace vggflow {

/// Text in which every address stands without "user:password@".
std::string without_password(const std::string& text);

/// The same, and this process remembers what it took for with_password.
std::string keep_password(const std::string& text);

/// An address with the user and password that keep_password took from it, for the request itself;
/// unchanged where there were none.
std::string with_password(const std::string& address);

}  // namespace vggflow
