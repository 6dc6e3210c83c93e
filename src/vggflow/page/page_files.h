#pragma once
// The page itself, page/assets/page.*, as it was built into the program.

#include <string_view>

namespace vggflow {

std::string_view page_html();
std::string_view page_css();
std::string_view page_js();

}  // namespace vggflow
