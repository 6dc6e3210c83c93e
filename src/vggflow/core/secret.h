#pragma once
// Users and passwords in addresses (http://user:password@host) are needed to ask the host, and are
// written nowhere: settings hold, save and log the address without them. Local folders stay in the
// run's own files, and out of those that are given on: LoRAs and images.

#include <string>

namespace vggflow {

/// Text in which every address stands without "user:password@".
std::string without_password(const std::string& text);

/// The same, and this process remembers what it took for with_password.
std::string keep_password(const std::string& text);

/// An address with the user and password that keep_password took from it, for the request itself;
/// unchanged where there were none.
std::string with_password(const std::string& address);

/// A value as a file for others may hold it: of every path that begins at the root the last part
/// alone ("0.5*plugin:/opt/me/my.so?k=1" is "0.5*plugin:my.so?k=1"). Addresses of servers stay.
std::string without_folders(const std::string& text);

}  // namespace vggflow
