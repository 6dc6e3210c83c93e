#pragma once
// "~" in paths: a shell expands it at the start of a word only, and files of settings have no
// shell.

#include <string>

namespace vggflow {

/// "~" and "~/x" with the home folder (HOME, else the user's entry in the system's list) in place
/// of "~", and "~user" and "~user/x" with that user's; the same after '=' and ':' ("name=~/x",
/// "plugin:~/x.so"), as shells do in assignments, but not within an address
/// ("http://host/?of=~/x"). Throws for "~user/x" without such a user: a folder of that name is
/// nobody's wish.
std::string with_home(const std::string& text);

}  // namespace vggflow
