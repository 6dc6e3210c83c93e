#pragma once
// The page itself, page/assets/, as it was built into the program.

#include <string_view>

namespace vggflow {

std::string_view page_html();
std::string_view page_css();
std::string_view page_js();
std::string_view page_svg();

}  // namespace vggflow
