#pragma once
// What the HTML reports share: the frame with its style, figures with embedded images, and reading
// numbers that may be absent.

#include <filesystem>
#include <string>

#include "vggflow/io/jsonl.h"
#include "vggflow/metrics/metrics.h"

namespace vggflow {

/// A whole page; `body` is HTML. It names nothing outside itself.
std::string html_page(const std::string& title, const std::string& body);

/// An <img> element that a click, or space, shows as large as the window; no script.
std::string zoomable(const std::string& image);

/// An image with a caption, its PNG bytes embedded; a click enlarges it.
std::string figure(const std::filesystem::path& png, const std::string& caption);

/// The number at a path such as "/reward/mean"; not a number where it is absent or of another type,
/// as in half-written runs.
double number(const Json& object, const std::string& path);

/// The text of a member; `otherwise` where it is absent or no text.
std::string text(const Json& object, const char* name, const std::string& otherwise = "");

/// "held-out prompts", "training prompts": what an evaluation's line says of its prompts; "prompts"
/// where it says nothing.
std::string prompt_words(const Json& eval_line);

/// With so many digits after the point; "–" where there is no number.
std::string shown(double value, int digits, const char* after = "");

/// "+15.8 ± 2.6": a change with its sign, without an error the change alone.
std::string shown_change(const Estimate& change, int digits, double factor = 1);

/// "0.312 ± 0.014", the mean alone where there is no error. `factor`: 100 for percent.
std::string shown(const Estimate& estimate, int digits, double factor = 1);

}  // namespace vggflow
